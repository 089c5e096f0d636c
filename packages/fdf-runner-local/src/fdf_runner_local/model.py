"""One model's process as the driver sees it, and the models of a stage together."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fdf.errors import Problem, StageFailed
from fdf.plan.task import StageRef
from fdf.stage.blame import MAX_PLAIN_DEATHS
from fdf_runner_local.asking import Desks
from fdf_runner_local.member import Death, Member
from fdf_runner_local.packing import Slot
from fdf_runner_local.parcels import Obituary
from fdf_runner_local.wire import Infers, Serve

REMEMBERED = 1000
# What a socket's address may have, less the name that follows.
LONGEST_FOLDER = 80


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models of a stage: the slots that hold them, what they are called, and what each process may hold."""

    slots: tuple[Slot, ...]
    threads: int
    memory: Mapping[str, int]
    """How many bytes an operator declares; 0: none."""
    most_memory: int
    """How many bytes a process may hold where its operators do not declare it."""

    @property
    def in_turn(self) -> bool:
        return any(slot.in_turn for slot in self.slots)

    def memory_of(self, slot: Slot) -> int:
        """Return how many bytes a slot's process may hold: what its operators declare, where all of them do."""
        declared = [self.memory[name] for name in slot.operator_ids]
        if not all(declared):
            return self.most_memory
        return max(declared) if slot.in_turn else sum(declared)


@dataclass(eq=False)
class ModelMember(Member):
    """A process that holds the models of one slot; `post` is where it is."""

    post: Post = field(kw_only=True)
    memory: int = field(kw_only=True)
    at: Infers | None = None

    @property
    def busy(self) -> bool:
        """Say whether it is at work on rows."""
        return self.at is not None and bool(self.at.number)

    def memory_limit(self, default: int) -> int:
        """Return how many bytes it may hold."""
        return self.memory

    def serve(self, stage: StageRef, threads: int) -> None:
        """Have the process take its post."""
        self.progressed()
        self.line.send(Serve(stage, self.post.slot, self.post.path, threads, tuple(self.post.obituaries)))


@dataclass(eq=False)
class Post:
    """A slot with its address, whichever process serves it, and how those before died."""

    slot: Slot
    path: Path
    obituaries: list[Obituary] = field(default_factory=list)
    fruitless: int = 0
    """Deaths in a row of processes that had not begun with any rows."""

    @property
    def name(self) -> str:
        """Return what messages call whoever serves it."""
        return f"{' and '.join(f'`{i}`' for i in self.slot.operator_ids)} on {self.slot.device}"

    def mourn(self, death: Death, at: Infers | None) -> None:
        """Note a death. Raises StageFailed where processes keep dying before they do anything."""
        self.fruitless = self.fruitless + 1 if at is None else 0
        if self.fruitless > MAX_PLAIN_DEATHS:
            raise StageFailed(
                Problem(
                    code="FDF420",
                    message=f"the process of {self.name} died {self.fruitless} times before it did anything "
                    f"(last: {death.detail})",
                    help="run again with `--runner serial` to see where; what was committed is safe",
                )
            )
        self.obituaries.append(Obituary(at.number if at is not None else "", death.cause, death.detail))
        del self.obituaries[:-REMEMBERED]


class Posts:
    """The posts of a stage's models, in a folder that only this user can enter."""

    def __init__(self, models: Models) -> None:
        folder = tempfile.mkdtemp(prefix="fdf-")
        if len(folder) > LONGEST_FOLDER:
            Path(folder).rmdir()
            folder = tempfile.mkdtemp(prefix="fdf-", dir="/tmp")
        self.close = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.all = tuple(Post(slot, Path(folder, str(number))) for number, slot in enumerate(models.slots))
        self.desks = Desks(paths=_by_operator(self.all), in_turn=models.in_turn)


def _by_operator(posts: Sequence[Post]) -> dict[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = {}
    for post in posts:
        for operator_id in post.slot.operator_ids:
            found[operator_id] = (*found.get(operator_id, ()), post.path)
    return found
