"""The cluster that a run uses: the one that this process is connected to, one at an address, or one of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import ray

from fdf.errors import MissingDependency, PlanError, Problem
from fdf_runner_local.machine import usable_memory

START_PATIENCE = 120.0
CLOSE_PATIENCE = 20.0
OBJECT_STORE_SHARE = 0.1
LEAST_OBJECT_STORE, MOST_OBJECT_STORE = 80 << 20, 1 << 30

AUTH_MODE = "RAY_AUTH_MODE"

NO_OVERRIDE = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Workers have memory limits of their own; Ray's monitor would kill for what other programs hold.
    "RAY_memory_monitor_refresh_ms": "0",
    # A process per CPU for each driver that comes: an actor starts its own as it needs it.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    # What Ray will do by default; without it each driver is told so by a warning.
    NO_OVERRIDE: "0",
}

# As for the local runner's workers: the driver's own search path, so that FDF is found where the driver found it.
_KEEPER = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[4]); from fdf_runner_ray.keeper import main; "
    "main(int(sys.argv[1]), cpus=int(sys.argv[2]), object_store=int(sys.argv[3]))"
)


class LocalCluster:
    """A Ray cluster of one node on this machine, kept by a process of its own (see `fdf_runner_ray.keeper`)."""

    def __init__(self, *, cpus: int) -> None:
        answers, theirs = os.pipe()
        store = int(usable_memory() * OBJECT_STORE_SHARE)
        store = max(LEAST_OBJECT_STORE, min(MOST_OBJECT_STORE, store))
        arguments = [str(theirs), str(cpus), str(store), json.dumps([str(entry) for entry in sys.path])]
        try:
            self._keeper = subprocess.Popen(  # noqa: S603 (our own program)
                [sys.executable, "-c", _KEEPER, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs,),
                env={**os.environ, **QUIET},
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        with os.fdopen(answers) as said:
            heard = selectors.PollSelector()  # Unlike `select`, for descriptors of any number.
            heard.register(said, selectors.EVENT_READ)
            answered = heard.select(START_PATIENCE)
            answer = json.loads((said.read() if answered else "") or "{}")
        if "address" not in answer:
            self.close()
            why = answer.get("error", f"it gave no answer within {START_PATIENCE:.0f} s, or ended before").rstrip()
            raise MissingDependency(
                Problem(
                    code="FDF520",
                    message=f"a Ray cluster cannot be started on this machine: {why.splitlines()[-1]}\n\n{why}",
                    help="run on a cluster that is there with `--ray-address`, or with `--runner local`",
                )
            )
        self.address: str = answer["address"]
        self.auth: str = answer["auth"]

    def close(self) -> None:
        """End the cluster and everything that it started; return when it is gone."""
        assert self._keeper.stdin is not None
        with contextlib.suppress(OSError):
            self._keeper.stdin.close()
        try:
            self._keeper.wait(CLOSE_PATIENCE)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._keeper.pid, signal.SIGKILL)
            self._keeper.wait()


class Connection:
    """This process's connection to a cluster. Ray has one per process: it is shared, and closed by its last user."""

    _current: Connection | None = None
    _lock = threading.RLock()  # A runner that is collected closes its connection, maybe while another one opens.

    def __init__(self, address: str | None, *, cpus: int) -> None:
        self.asked = address
        self.users = 0
        self._local = LocalCluster(cpus=cpus) if address is None else None
        self._auth = os.environ.get(AUTH_MODE)
        try:
            if self._local is not None:
                ask_for_tokens(self._local.auth)
            _connect(self._local.address if self._local else address)
        except BaseException:
            if self._local is not None:
                self._local.close()
                ask_for_tokens(self._auth)
            raise

    @classmethod
    def open(cls, address: str | None, *, cpus: int) -> Connection | None:
        """Connect to the cluster at an address, or to a new one on this machine with so many CPUs.

        Returns None where the program has connected by itself: that connection is used and not closed.
        """
        with cls._lock:
            current = cls._current
            if current is not None and current.asked != address:
                raise PlanError(
                    f"this process already runs on the Ray cluster at {ray.get_runtime_context().gcs_address}",
                    help="close the other runner first (`runner.close()`), or run in another process",
                )
            if current is None and ray.is_initialized():
                return None
            if current is None:
                current = cls._current = Connection(address, cpus=cpus)
            current.users += 1
            return current

    def close(self) -> None:
        """Give the connection up; the last one to do so ends it, and the cluster too where it is its own."""
        with self._lock:
            self.users -= 1
            if self.users:
                return
            Connection._current = None
            ray.shutdown()
            if self._local is not None:
                self._local.close()
                ask_for_tokens(self._auth)


def ask_for_tokens(mode: str | None) -> None:
    """Set whether this process shows a token to a cluster. Ray sets it by itself only where it also starts one."""
    if mode == os.environ.get(AUTH_MODE):
        return
    os.environ.pop(AUTH_MODE, None)
    if mode:
        os.environ[AUTH_MODE] = mode
    # What Ray itself calls after it has set the variable, which is else read only once. Older versions have no tokens.
    config = getattr(ray._raylet, "Config", None)  # noqa: SLF001
    if config is not None:
        config.initialize("")


def _connect(address: str | None) -> None:
    if address is not None and address.startswith("ray://"):
        raise PlanError(
            "a run cannot be driven through Ray Client (`ray://`): its driver has to live on a node of the cluster",
            help="start `fdf run` on the head node, or with `ray job submit -- fdf run ...`",
        )
    logging.getLogger("ray").setLevel(logging.ERROR)
    # What Ray has to say of nodes it prints to stdout, which is for data; the run's own events say it.
    ray._private.worker._worker_logs_enabled = False  # noqa: SLF001 (there is no other switch)
    os.environ.setdefault(NO_OVERRIDE, "0")
    try:
        with _signals_kept():
            ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise MissingDependency(
            Problem(
                code="FDF521",
                message=f"there is no Ray cluster to be reached at {address}: {str(error).strip()}",
                help="give HOST:PORT as `ray start --head` told it, or leave it out for a cluster of its own",
            )
        ) from error


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep the program's own handlers of Ctrl-C and SIGTERM: Ray installs one that ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept: dict[signal.Signals, Any] = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in kept.items():
            if handler is not None:
                signal.signal(which, handler)
