"""The serial reference runner: every task in this process, one after the other. Other runners must equal it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fdf.plan.task import Task
from fdf.runner.devices import check_device, without_gpu
from fdf.stage.events import CancelToken, Emit, Event
from fdf.stage.worker import Worker

if TYPE_CHECKING:
    from fdf.plan.model import Plan


class SerialRunner:
    """Runs tasks in the calling process."""

    name = "serial"

    def __init__(self, *, workers: int | None = None, device: str = "auto") -> None:
        self._device = device
        self._remark: str | None = None

    def check(self, plan: Plan) -> None:
        """Refuse a device that this machine does not have."""
        check_device(self._device)
        self._remark = without_gpu(plan, device=self._device)

    def run(self, tasks: Iterable[Task], emit: Emit, cancel: CancelToken) -> None:
        """Run the tasks in their order."""
        with Worker(device=self._device) as worker:
            for task in tasks:
                if self._remark is not None:
                    emit(Event(kind="warning", stage=task.stage.name, data={"message": self._remark}))
                    self._remark = None
                cancel.raise_if_cancelled()
                worker.run(task, emit=emit, cancel=cancel)
