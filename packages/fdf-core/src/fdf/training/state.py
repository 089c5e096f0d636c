"""Where training stands: one place among all documents, with what is needed to go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fdf.errors import PlanError, Problem
from fdf.training.lots import Pass
from fdf.training.striping import Consumer, Law

FORMAT = "fdf-training/1"


@dataclass(frozen=True, kw_only=True)
class State:
    """All documents at places before `position` are consumed, in the pass `within` or an earlier one."""

    position: int = 0
    within: Pass = field(default_factory=Pass)
    first_epoch: int = 0
    """The pass that the stream began with: `epochs` counts from it."""
    taken_by: Consumer | None = None
    """Set in the state of one loader worker of several: it holds for that worker alone."""
    origin: int | None = None
    """For such a state: from where turns are counted."""

    def to_json(self, plan_hash: str, law: Law) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        said: dict[str, Any] = {
            "format": FORMAT,
            "plan_hash": plan_hash,
            "seed": law.seed,
            "window": law.window,
            "position": self.position,
            "epoch": self.within.epoch,
            "epoch_began": self.within.began,
            "first_epoch": self.first_epoch,
            "cursor": None if self.within.cursor is None else dict(self.within.cursor),
        }
        if self.taken_by is not None:
            said["worker"] = {**vars(self.taken_by), "origin": self.origin}
        return said

    @classmethod
    def from_json(cls, value: Any, plan_hash: str, law: Law, *, where: str) -> State:
        """Return a state that was stored. Raises PlanError where it is none, or of another plan."""
        if not isinstance(value, Mapping) or value.get("format") != FORMAT:
            raise _refused(
                f"this is no state of a MixtureDataset: {_short(value)}", "pass what `state_dict()` returned"
            )
        if value["plan_hash"] != plan_hash:
            raise _refused(
                f"the state is of another plan ({value['plan_hash'][:12]}) than {where} ({plan_hash[:12]}): its "
                "documents or their order are not the same, so its position means nothing here",
                "open the dataset or recipe that the state was taken from, or begin anew without the state",
            )
        for name, own in (("seed", law.seed), ("window", law.window)):
            if value[name] != own:
                raise _refused(
                    f"the state was taken with `{name}={value[name]}`, and this dataset has `{name}={own}`",
                    f"pass `{name}={value[name]}` to go on where it stands",
                )
        worker = value.get("worker")
        taken_by = None if worker is None else Consumer(**{k: v for k, v in worker.items() if k != "origin"})
        return cls(
            position=value["position"],
            within=Pass(epoch=value["epoch"], began=value["epoch_began"], cursor=value["cursor"]),
            first_epoch=value["first_epoch"],
            taken_by=taken_by,
            origin=None if worker is None else worker["origin"],
        )

    def check_taken_by(self, consumer: Consumer) -> None:
        """Raise PlanError where one worker's state is given to anyone else."""
        if self.taken_by is not None and self.taken_by != consumer:
            was = self.taken_by
            raise _refused(
                f"the state is that of worker {was.worker} of {was.workers} in rank {was.rank} of {was.ranks} alone "
                f"(turn={was.turn}); it is given to worker {consumer.worker} of {consumer.workers} in rank "
                f"{consumer.rank} of {consumer.ranks} (turn={consumer.turn})",
                "for other ranks or workers take the state of the whole: `dataset.state_at(documents_per_rank)`",
            )


def _refused(message: str, advice: str) -> PlanError:
    return PlanError(Problem(code="FDF361", message=message, help=advice))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
