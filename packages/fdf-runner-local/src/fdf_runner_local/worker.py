"""What a worker process does: takes tasks from the driver, runs them with `fdf.stage.worker.Worker`, says what happens.

A second thread listens, so that a stop is heard in the middle of a split, and ends the process when the driver is gone.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from fdf.errors import FdfError
from fdf.plan.task import StageRef, Task
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
    runs: queue.SimpleQueue[Run | Serve | None] = queue.SimpleQueue()
    main = threading.get_ident()
    threading.Thread(target=_listen, args=(end, runs, cancel, main), name="fdf-listener", daemon=True).start()
    stages = _Stages()
    models = RemoteModels(cancel)
    with Worker(device=device, elsewhere=models) as worker:
        while (order := runs.get()) is not None:
            if isinstance(order, Serve):
                end.send(_served(order, end, runs))
                continue
            if order.desks is not None:
                models.settle(order.desks)
            end.send(_outcome(worker, stages.whole(order.task), order, end=end, cancel=cancel))
    return 0


def main(descriptor: int, *, device: str) -> None:
    """Be a worker that was started as an interpreter of its own."""
    sys.exit(work(socket.socket(fileno=descriptor), device=device))


class _Stages:
    """The stages that this worker has had: each one's bytes come once."""

    def __init__(self) -> None:
        self._known: dict[str, StageRef] = {}

    def whole(self, task: Task) -> Task:
        """Return the task with the whole of its stage."""
        return replace(task, stage=self._known.setdefault(task.stage.digest, task.stage))


def _outcome(worker: Worker, task: Task, run: Run, *, end: WorkerEnd, cancel: CancelToken) -> Report:
    def emit(event: Event) -> None:
        end.send(Happened(event))

    try:
        worker.run(task, emit=emit, cancel=cancel, attempt=run.attempt, at=lambda crumb: end.send(At(crumb)))
    except FdfError as error:
        return _failed(error)
    except Exception as error:  # noqa: BLE001 (whatever else it is, the driver must hear of it)
        return Crashed(f"{type(error).__name__}: {error}", traceback.format_exc())
    return Finished()


def _served(serve: Serve, end: WorkerEnd, orders: queue.SimpleQueue[Run | Serve | None]) -> Report:
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


def _listen(end: WorkerEnd, runs: queue.SimpleQueue[Run | Serve | None], cancel: CancelToken, main: int) -> NoReturn:
    for order in end.orders():
        if isinstance(order, Run | Serve):
            runs.put(order)
        elif isinstance(order, Cancel):
            cancel.cancel()
        elif isinstance(order, WhereAreYou):
            end.send(Whereabouts(_whereabouts(main)))
        else:
            runs.put(None)
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
