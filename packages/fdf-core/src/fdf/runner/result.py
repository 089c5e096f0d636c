"""What a finished run hands back: manifests, and the dataset as Arrow, Polars, `datasets` or PyTorch sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fdf.errors import FdfError, MissingDependency, Problem
from fdf.storage import open_store

if TYPE_CHECKING:
    import datasets
    import polars as pl

    from fdf.training.dataset import Format, MixtureDataset
    from fdf.training.tails import Tail


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """One committed stage."""

    name: str
    root: str
    manifest: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run. `exit_code` is 0, or 1 where a `require:` gate failed."""

    run_id: str
    run_dir: Path
    stages: tuple[StageResult, ...]

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the last stage that was committed: the output's, in a run that went through."""
        return self.stages[-1].manifest

    @property
    def manifests(self) -> dict[str, dict[str, Any]]:
        """Every stage's manifest by name."""
        return {s.name: s.manifest for s in self.stages}

    @property
    def gates_failed(self) -> tuple[str, ...]:
        """The gates that did not hold."""
        return tuple(g for s in self.stages for g in s.manifest["gates_failed"])

    @property
    def exit_code(self) -> int:
        """Return what the command line exits with."""
        return 1 if self.gates_failed else 0

    @property
    def path(self) -> str:
        """Where the last committed stage is: its root."""
        return self.stages[-1].root

    def to_arrow(self) -> pa.Table:
        """Return the dataset as one Arrow table, in the manifest's order."""
        stage = self.stages[-1]
        store = open_store(stage.root)
        tables = []
        for entry in stage.manifest["outputs"]:
            if not entry["path"].endswith(".parquet"):
                raise FdfError(
                    Problem(
                        code="FDF440",
                        message=f"{stage.root} is not parquet, so it cannot be read back as a table",
                        help="read the files with the tools of their format, or write `type: parquet`",
                    )
                )
            with store.open(entry["path"]) as stream:
                tables.append(pq.read_table(stream))
        return pa.concat_tables(tables)

    def to_polars(self) -> pl.DataFrame:
        """Return the dataset as a Polars frame, in the manifest's order."""
        import polars as pl

        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def to_dataset(self) -> datasets.Dataset:
        """Return the dataset as a Hugging Face `datasets.Dataset`. Raises MissingDependency without that package."""
        try:
            import datasets
        except ImportError as error:
            raise MissingDependency(
                Problem(
                    code="FDF501",
                    message="to_dataset() needs the package `datasets`",
                    help="pip install 'fdf-core[datasets]'",
                )
            ) from error
        return datasets.Dataset(self.to_arrow())

    def to_torch(
        self,
        *,
        columns: Sequence[str] | None = None,
        epochs: int | None = 1,
        tail: Tail = "keep",
        batch_size: int | None = None,
        format: Format = "python",  # noqa: A002 (the word that `datasets` users know)
        turn: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        seed: int | None = None,
        window: int | None = None,
    ) -> MixtureDataset:
        """Return the dataset as a PyTorch `IterableDataset` that deals it out to ranks and workers; see
        `fdf.MixtureDataset`, whose options these are."""
        from fdf.training.dataset import MixtureDataset

        return MixtureDataset(
            self,
            columns=columns,
            epochs=epochs,
            tail=tail,
            batch_size=batch_size,
            format=format,
            turn=turn,
            rank=rank,
            world_size=world_size,
            seed=seed,
            window=window,
        )
