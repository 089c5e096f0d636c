"""What only `datasets` can read: prepared by it as parquet files in its cache, or streamed record by record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from fdf.errors import BadFile, FdfError, MissingDependency, PlanError, Problem, TransientError
from fdf.sources.huggingface.embedding import embedded, may_point
from fdf.sources.huggingface.layout import DataFiles
from fdf.sources.huggingface.origin import INSTALL, told
from fdf.storage.retry import causes, is_transient, retrying
from fdf.storage.uri import redacted

_ROWS = 1000
_SHARD = r"-\d+-of-\d+"


@dataclass(frozen=True)
class Loadable:
    """What `load_dataset` is asked for. A commit makes it the same each time."""

    path: str
    config: str | None
    split: str
    commit: str | None
    data_files: DataFiles | None

    def prepared(self) -> list[Path]:
        """Return the split as parquet files in the cache of `datasets`, made where they are not there yet.

        Parquet, and not the cache's usual Arrow: what the files only point to, such as images, is then in them.
        """
        return retrying(partial(_explained, self, self._prepare), what=f"preparing {self.path} with `datasets`")

    def _prepare(self) -> list[Path]:
        builder = self._builder()
        folder = Path(f"{builder.cache_dir}-parquet")
        builder.download_and_prepare(str(folder), file_format="parquet")
        splits = list(builder.info.splits or ())
        self._check_splits(splits)
        files: list[Path] = []
        for one in self.split.split("+"):
            named = f"{builder.dataset_name}-{one.strip()}"
            files += [p for p in folder.glob("*.parquet") if re.fullmatch(rf"{re.escape(named)}({_SHARD})?", p.stem)]
        return files

    def streamed(self) -> Any:
        """Return the split as an iterable dataset that gives Arrow tables."""
        return retrying(partial(_explained, self, self._stream), what=f"opening {self.path} with `datasets`")

    def _stream(self) -> Any:
        builder = self._builder()
        found = builder.as_streaming_dataset()
        self._check_splits(list(found))
        parts = [found[one.strip()] for one in self.split.split("+")]
        from datasets import concatenate_datasets

        whole = parts[0] if len(parts) == 1 else concatenate_datasets(parts)
        return whole.with_format("arrow")

    def tables(self, start: int) -> Iterator[pa.Table]:
        """Yield the records from number `start` on. Raises TransientError for a fault that may pass, else BadFile."""
        stream = self.streamed()
        tables = _tables(stream.skip(start) if start else stream)
        while True:
            try:
                table = next(tables, None)
            except (FdfError, TransientError):
                raise
            except Exception as error:
                cause = redacted(f"{type(error).__name__}: {error}")[:300]
                if is_transient(error):
                    raise TransientError(f"{self.path} could not be read: {cause}") from error
                raise BadFile(f"{self.path} cannot be read by `datasets`: {cause}", help="see to the files") from error
            if table is None:
                return
            yield table

    def _builder(self) -> Any:
        try:
            from datasets import load_dataset_builder
        except ImportError as error:
            raise MissingDependency(
                f"the files of `{self.path}` can only be read by the package `datasets`, which is not installed",
                help=INSTALL,
            ) from error
        files: Any = self.data_files
        return load_dataset_builder(self.path, name=self.config, revision=self.commit, data_files=files)

    def _check_splits(self, known: list[str]) -> None:
        for one in self.split.split("+"):
            if one.strip() not in known:
                message = f"`{self.path}` has no split `{one.strip()}`"
                help_ = f"it has: {', '.join(known)}"
                raise PlanError(Problem(code="FDF300", message=message, about="split", help=help_))


def _explained(loadable: Loadable, call: Any) -> Any:
    """Return `call()`; what keeps `datasets` from finding or reading a dataset is an error of the plan."""
    try:
        with told(loadable.path, loadable.commit or ""):
            return call()
    except (FdfError, TransientError):
        raise
    except Exception as error:
        if is_transient(error):
            raise
        # What it raises last says only that something went wrong.
        first = list(causes(error))[-1]
        cause = redacted(f"{type(first).__name__}: {first}".strip().split("\n", 1)[0])[:300]
        if isinstance(first, ImportError):
            message = f"`datasets` needs another package to load `{loadable.path}`: {cause}"
            raise MissingDependency(message, help="install it beside `datasets`") from error
        message = f"`datasets` cannot load `{loadable.path}`: {cause}"
        raise PlanError(Problem(code="FDF300", message=message, about="path", help="see to the files")) from error


def _tables(stream: Any) -> Iterator[pa.Table]:
    """Yield the records of an iterable dataset, with the bytes of what they only point to: images, sounds."""
    tables = stream.iter(batch_size=_ROWS)
    return embedded(tables, stream.features) if may_point(stream.features) else iter(tables)
