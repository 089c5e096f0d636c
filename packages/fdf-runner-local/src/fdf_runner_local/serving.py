"""What a model's process does: holds the models of its slot and answers the workers' requests, one after the other.

One thread reads each worker's line; one takes the next request and starts its copies to the device; the main thread
infers. So the copies of one batch overlap with the model's work on the one before, and at most two batches are on the
device.
"""

from __future__ import annotations

import gc
import os
import queue
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress

import pyarrow as pa

from fdf.errors import FdfError, OperatorMisbehaved, TransientError
from fdf.models.contract import ModelOperator
from fdf.models.copying import forget_copies, start_copies
from fdf.models.memory import give_back_device_memory, is_out_of_memory
from fdf.plan.job import Step
from fdf.stage.setup import set_up, tear_down
from fdf_runner_local.parcels import Answer, Ask, Hello, Line, Raised, Refusal, Shared, accepted
from fdf_runner_local.requests import Request, Requests
from fdf_runner_local.wire import Infers, Serve, WorkerEnd

ON_DEVICE = 2
BACKLOG = 512


class Server:
    """The models of one slot. `end` is the line to the driver."""

    def __init__(self, serve: Serve, end: WorkerEnd) -> None:
        self._serve = serve
        self._end = end
        self._device, _, visible = serve.slot.device.partition(":")
        if visible:
            # Before torch looks for GPUs: an operator that says `cuda` means its own.
            os.environ["CUDA_VISIBLE_DEVICES"] = _of_visible(visible)
        if self._device == "cpu":
            # Before torch is imported: its threads share the CPUs with the workers, and must not spin while they wait.
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        job = serve.stage.load()
        self._seed = job.seed
        self._steps: dict[str, Step] = {s.id: s for s in job.steps if s.id in serve.slot.operator_ids}
        self._held: list[str] = []
        self._requests = Requests(in_turn=serve.slot.in_turn)
        self._copied: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(ON_DEVICE)

    def run(self) -> None:
        """Load the models, then answer until `stop`. Raises what setup raises."""
        with socket.socket(socket.AF_UNIX) as listener:
            try:
                if not self._serve.slot.in_turn:
                    for operator_id in self._steps:
                        self._load(operator_id)
                with suppress(FileNotFoundError):
                    self._serve.path.unlink()  # Of a process before this one.
                listener.bind(str(self._serve.path))
                listener.listen(BACKLOG)
                threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
                threading.Thread(target=self._copy_ahead, daemon=True).start()
                self._answer_all()
            finally:
                for operator_id in list(self._held):
                    self._unload(operator_id)

    def stop(self) -> None:
        """Have `run` end after the request at hand."""
        self._requests.close()
        self._copied.put(None)

    def _accept(self, listener: socket.socket) -> None:
        while (sock := accepted(listener)) is not None:
            threading.Thread(target=self._read, args=(Line(sock),), daemon=True).start()

    def _read(self, line: Line) -> None:
        with suppress(OSError):
            line.send(Hello(self._serve.obituaries))
            while (found := line.receive()) is not None:
                ask, batch = found
                if isinstance(ask, Ask) and batch is not None:
                    self._requests.put(Request(ask, batch, line))
                del found, batch
        # Where it could not be read on, the worker connects again and asks again.
        line.close()

    def _copy_ahead(self) -> None:
        while True:
            self._room.acquire()
            request = self._requests.take()
            if request is None:
                return
            operator = self._steps[request.ask.operator_id].use.operator
            if isinstance(operator, ModelOperator) and operator.copies_ahead:
                # Where it fails, for lack of memory above all, `infer` makes the copy itself and tells what went wrong.
                with suppress(Exception):
                    start_copies(request.batch, self._device)
            self._copied.put(request)

    def _answer_all(self) -> None:
        while (request := self._copied.get()) is not None:
            self._end.send(Infers(request.ask.number, request.ask.operator_id, request.ask.rows))
            try:
                self._answer(request)
            finally:
                forget_copies(request.batch)
                self._requests.answered()
                self._room.release()
            del request
            if self._copied.empty() and self._requests.empty():
                self._end.send(Infers("", "", 0))

    def _answer(self, request: Request) -> None:
        number = request.ask.number
        operator = self._at_hand(request.ask.operator_id)
        made: pa.RecordBatch | None = None
        told: Exception | None = None
        started = time.perf_counter()
        try:
            made = operator.inferred(request.batch)
        except Exception as error:  # noqa: BLE001 (an operator may raise anything; the worker judges the row)
            if _breaks_device(error):
                traceback.print_exc()
                os.abort()
            told = _portable(error)
        seconds = time.perf_counter() - started
        shared: Shared | None = None
        try:
            shared = Shared(made) if made is not None else None
        except OSError as error:  # No descriptor is left, say. The rows are not to blame.
            told = TransientError(f"no place for an answer: {error}")
        with suppress(OSError):  # A worker that is gone waits for nothing.
            if shared is None:
                request.line.send(Refusal(number, told or RuntimeError("no answer")))
                return
            try:
                request.line.send(Answer(number, seconds), shared)
            finally:
                shared.close()

    def _at_hand(self, operator_id: str) -> ModelOperator:
        if operator_id not in self._held:
            started = time.monotonic()
            for other in list(self._held):
                self._unload(other)
            self._load(operator_id)
            self._requests.changed_in(time.monotonic() - started)
        operator = self._steps[operator_id].use.operator
        assert isinstance(operator, ModelOperator)
        return operator

    def _load(self, operator_id: str) -> None:
        self._held.append(operator_id)
        set_up(self._steps[operator_id], seed=self._seed, device=self._device, verbs=frozenset({"infer"}))
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(self._serve.threads)

    def _unload(self, operator_id: str) -> None:
        self._held.remove(operator_id)
        step = self._steps[operator_id]
        tear_down(step)
        step.use.operator.__dict__.pop("_runtime", None)
        gc.collect()
        give_back_device_memory()


def _of_visible(numbers: str) -> str:
    """Return what `CUDA_VISIBLE_DEVICES` should say for GPUs numbered among those that are visible now."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return numbers
    names = [name.strip() for name in shown.split(",")]
    return ",".join(names[int(number)] for number in numbers.split(","))


def _breaks_device(error: Exception) -> bool:
    """Say whether a GPU refuses everything from now on (an assertion or a bad address in a kernel): then only another
    process can go on, and the rows are to blame as for any other fault."""
    return isinstance(error, RuntimeError) and "CUDA error" in str(error) and not is_out_of_memory(error)


def _portable(error: Exception) -> Exception:
    """Return an error that any worker can unpickle and that reads the same: FDF's own are kept, others by name."""
    if is_out_of_memory(error):
        return MemoryError(str(error))
    if isinstance(error, FdfError):
        if type(error).__module__.partition(".")[0] == "fdf":
            return error
        return OperatorMisbehaved(*error.problems)
    return Raised(type(error).__name__, str(error))
