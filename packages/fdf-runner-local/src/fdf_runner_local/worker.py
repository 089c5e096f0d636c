"""What a worker process does: takes tasks from the driver, runs them with `fdf.stage.worker.Worker`, says what happens.

A second thread listens, so that a stop is heard in the middle of a split, and ends the process when the driver is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from fdf.errors import FdfError
from fdf.plan.task import StageRef, Task
from fdf.stage.blame import Attempt
from fdf.stage.events import CancelToken, Event
from fdf.stage.worker import Worker
from fdf_runner_local.asking import RemoteModels
from fdf_runner_local.serving import Server
from fdf_runner_local.wire import (
    At,
    Cancel,
    Crashed,
    Failed,
    Finished,
    Happened,
    Report,
    Run,
    Serve,
    Turns,
    Wants,
    Whereabouts,
    WhereAreYou,
    WorkerEnd,
)

IO_THREADS = 2
CALLS_TOLD = 3
OUT_OF_MEMORY_SCORE = "500"


def work(sock: socket.socket, *, device: str) -> int:
    """Run tasks until the driver says stop; return the exit code."""
    _take_one_cpu()
    end = WorkerEnd(sock, lost=_vanish)
    cancel = CancelToken()
    orders = _Orders()
    main = threading.get_ident()
    threading.Thread(target=_listen, args=(end, orders, cancel, main), name="fdf-listener", daemon=True).start()
    models = RemoteModels(cancel)
    with Worker(device=device, elsewhere=models) as worker:
        while (order := orders.get()) is not None:
            if isinstance(order, Serve):
                end.send(_served(order, end, orders))
                continue
            if order.desks is not None:
                models.settle(order.desks)
            if _takes_company(order):
                coming = _Coming(orders, like=order, ask=lambda beside: end.send(Wants(beside)))
                told = _outcomes(worker, order, coming, end=end, cancel=cancel)
            else:
                told = _outcome(worker, order, end=end, cancel=cancel)
            if told is not None:
                end.send(told)
    return 0


def main(descriptor: int, *, device: str) -> None:
    """Be a worker that was started as an interpreter of its own."""
    sys.exit(work(socket.socket(fileno=descriptor), device=device))


class _Orders:
    """What the driver has said and nobody has done yet. Put by the listener, taken by the main thread."""

    def __init__(self) -> None:
        self._waiting: deque[Run | Serve | None] = deque()
        self._arrived = threading.Condition()
        self._stages: dict[str, StageRef] = {}
        self._bell: Callable[[], None] | None = None

    def put(self, order: Run | Serve | None) -> None:
        """Add an order; None: there will be no other. A task gets the whole of its stage, whose bytes come once."""
        if isinstance(order, Run):
            stage = self._stages.setdefault(order.task.stage.digest, order.task.stage)
            order = replace(order, task=replace(order.task, stage=stage))
        with self._arrived:
            self._waiting.append(order)
            self._arrived.notify_all()
            if self._bell is not None:
                self._bell()

    def get(self) -> Run | Serve | None:
        """Wait for the next order."""
        with self._arrived:
            while not self._waiting:
                self._arrived.wait()
            return self._waiting.popleft()

    def next_if(self, fits: Callable[[Run], bool]) -> Run | None:
        """Return the next order where there is one and it is a task that fits; else leave it."""
        with self._arrived:
            first = self._waiting[0] if self._waiting else None
            if not isinstance(first, Run) or not fits(first):
                return None
            self._waiting.popleft()
            return first

    def ring(self, bell: Callable[[], None] | None) -> None:
        """Call `bell` for every order from now on."""
        with self._arrived:
            self._bell = bell


class _Coming:
    """The tasks that may run beside one that was given: `fdf.stage.together.Coming`. It asks for one at a time."""

    def __init__(self, orders: _Orders, *, like: Run, ask: Callable[[int], None]) -> None:
        self._orders = orders
        self._like = like
        self._ask = ask
        self._asked = False
        self.ring = orders.ring

    def draw(self, *, beside: int) -> tuple[Task, Attempt] | None:
        """Return the next that has come, else ask for one to run beside others."""
        run = self._orders.next_if(self._fits)
        if run is not None:
            self._asked = False
            return run.task, run.attempt
        if beside and not self._asked:
            self._asked = True
            self._ask(beside)
        return None

    def _fits(self, run: Run) -> bool:
        same = run.task.stage.digest == self._like.task.stage.digest and run.desks == self._like.desks
        return same and _takes_company(run)


def _takes_company(run: Run) -> bool:
    several = run.desks is not None and run.desks.together
    return several and not run.attempt.takes_no_company


def _outcomes(worker: Worker, run: Run, coming: _Coming, *, end: WorkerEnd, cancel: CancelToken) -> Report | None:
    """Run a task and those that come meanwhile; return what stopped them, or None."""
    try:
        worker.run_together(
            run.task,
            run.attempt,
            coming,
            emit=lambda event: end.send(Happened(event)),
            cancel=cancel,
            at=lambda split: end.send(Turns(split)),
            done=lambda task: end.send(Finished(task.key.location)),
        )
    except FdfError as error:
        return _failed(error)
    except Exception as error:  # noqa: BLE001 (whatever else it is, the driver must hear of it)
        return Crashed(f"{type(error).__name__}: {error}", traceback.format_exc())
    return None


def _outcome(worker: Worker, run: Run, *, end: WorkerEnd, cancel: CancelToken) -> Report:
    def emit(event: Event) -> None:
        end.send(Happened(event))

    try:
        worker.run(run.task, emit=emit, cancel=cancel, attempt=run.attempt, at=lambda crumb: end.send(At(crumb)))
    except FdfError as error:
        return _failed(error)
    except Exception as error:  # noqa: BLE001 (whatever else it is, the driver must hear of it)
        return Crashed(f"{type(error).__name__}: {error}", traceback.format_exc())
    return Finished(run.task.key.location)


def _served(serve: Serve, end: WorkerEnd, orders: _Orders) -> Report:
    """Be the process of a model until the driver says stop."""
    try:
        server = Server(serve, end)
        threading.Thread(target=lambda: server.stop() if orders.get() is None else None, daemon=True).start()
        server.run()
    except FdfError as error:
        return _failed(error)
    except Exception as error:  # noqa: BLE001 (whatever else it is, the driver must hear of it)
        return Crashed(f"{type(error).__name__}: {error}", traceback.format_exc())
    finally:
        orders.put(None)
    return Finished()


def _failed(error: FdfError) -> Report:
    """Report an error as it is, or as its nearest kin in FDF where its own class does not reach the driver."""
    if type(error).__module__.partition(".")[0] == "fdf":
        return Failed(error)
    kin = next(kind for kind in type(error).__mro__ if kind.__module__ == "fdf.errors")
    return Failed(kin(*error.problems))


def _listen(end: WorkerEnd, orders: _Orders, cancel: CancelToken, main: int) -> NoReturn:
    for order in end.orders():
        if isinstance(order, Run | Serve):
            orders.put(order)
        elif isinstance(order, Cancel):
            cancel.cancel()
        elif isinstance(order, WhereAreYou):
            end.send(Whereabouts(_whereabouts(main)))
        else:
            orders.put(None)
    _vanish()


def _whereabouts(thread: int) -> str:
    """Return the innermost calls that a thread is in, the innermost first."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 (the documented way, in spite of its name)
    calls = traceback.extract_stack(frame)[-CALLS_TOLD:]
    return " < ".join(f"{call.filename}:{call.lineno} in {call.name}" for call in reversed(calls))


def _vanish() -> NoReturn:
    """End at once, with everything that this process started."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _take_one_cpu() -> None:
    """Keep Arrow to one computing thread, leave Ctrl-C to the driver, and be the first to go when memory runs out."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(IO_THREADS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OUT_OF_MEMORY_SCORE)
