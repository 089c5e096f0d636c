"""What became of a mixture: planned, delivered and kept per source, put together from manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from fdf.report.committed import CommittedStage

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40


@dataclass(frozen=True, kw_only=True)
class LeafStory:
    """One source of a mixture. What a manifest does not tell is None."""

    name: str
    asked: float | None
    planned_rows: int | None
    planned_units: int | None
    delivered_rows: int | None
    delivered_units: int | None
    epochs: float | None
    deviation: float | None
    final_rows: int
    final_units: int


@dataclass(frozen=True, kw_only=True)
class MixtureStory:
    """A mixture, from the stage that mixed to the last one that follows it."""

    stage: str
    root: str
    kept_in: str
    """The stage whose rows are counted as kept."""
    unit: str
    plan_hash: str | None
    leaves: tuple[LeafStory, ...]
    deviation: float | None
    bound: int | None
    events: tuple[dict[str, Any], ...]
    track: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the story as plain JSON values."""
        return asdict(self)

    def sparklines(self) -> Iterator[str]:
        """Yield lines that draw how far each source was from its target at moments from the start to the end."""
        most = max((abs(a) for moment in self.track for a in moment["ahead"]), default=0)
        if not most:
            return
        width = max(len(leaf.name) for leaf in self.leaves)
        moments = list(self.track)
        if len(moments) > _WIDTH:
            moments = [moments[i * len(moments) // _WIDTH] for i in range(_WIDTH)]
        yield f"over the schedule, at {len(moments)} moments ({_BARS[-1]} is {most:,.2f} {self.unit} from the target):"
        for number, leaf in enumerate(self.leaves):
            heights = [int(abs(m["ahead"][number]) / most * (len(_BARS) - 1)) for m in moments]
            bars = "".join(_BARS[h] for h in heights)
            yield f"  {leaf.name:<{width}}  {bars}  at most {leaf.deviation or 0:,.2f}"


def mixtures_of(stages: Sequence[CommittedStage]) -> list[MixtureStory]:
    """Return the mixtures that these stages tell of: each that mixed, with what the stages after it kept."""
    stories: list[MixtureStory] = []
    told = [s for s in stages if s.manifest.get("mixture")]
    mixing = [s for s in told if _mixed_here(s)] or told[-1:]
    for number, stage in enumerate(mixing):
        start = told.index(stage)
        stop = told.index(mixing[number + 1]) if number + 1 < len(mixing) else len(told)
        stories.append(_story(stage, told[start:stop][-1]))
    return stories


def _mixed_here(stage: CommittedStage) -> bool:
    return "bound" in stage.manifest["mixture"]


def _story(stage: CommittedStage, last: CommittedStage) -> MixtureStory:
    mixture: Mapping[str, Any] = stage.manifest["mixture"]
    final = {leaf["name"]: leaf["final"] for leaf in last.manifest["mixture"]["leaves"]}
    deviation = mixture.get("max_abs_deviation")
    return MixtureStory(
        stage=stage.name,
        root=stage.root,
        kept_in=last.name,
        unit=str(mixture.get("unit") or "units"),
        plan_hash=mixture.get("plan_hash"),
        leaves=tuple(_leaf(leaf, final.get(leaf["name"], leaf["final"])) for leaf in mixture["leaves"]),
        deviation=None if deviation is None else float(Fraction(deviation)),
        bound=mixture.get("bound"),
        events=tuple(mixture.get("events", ())),
        track=tuple(mixture.get("track", ())),
    )


def _leaf(leaf: Mapping[str, Any], final: Mapping[str, int]) -> LeafStory:
    planned, delivered = leaf.get("planned", {}), leaf.get("delivered", {})
    return LeafStory(
        name=leaf["name"],
        asked=float(Fraction(leaf["weight"])) if "weight" in leaf else None,
        planned_rows=planned.get("rows"),
        planned_units=planned.get("units"),
        delivered_rows=delivered.get("rows"),
        delivered_units=delivered.get("units"),
        epochs=leaf.get("epochs"),
        deviation=float(Fraction(leaf["max_abs_deviation"])) if "max_abs_deviation" in leaf else None,
        final_rows=final["rows"],
        final_units=final["units"],
    )
