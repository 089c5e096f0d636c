"""Keeps what is known of a shard's documents in `$FDF_CACHE/mixture-sizes`, as Arrow files under a digest."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from fdf.fingerprint import digest
from fdf.operator import cache_dir


class Sidecar:
    """One such file. `of` is everything that decides what stands in it."""

    def __init__(self, of: Mapping[str, Any]) -> None:
        name = digest(of)
        self._path: Path = cache_dir() / "mixture-sizes" / name[:2] / f"{name}.arrow"

    def load(self) -> list[pa.RecordBatch] | None:
        """Return the batches that were kept; None where none were, or where they cannot be read."""
        try:
            with pa.memory_map(str(self._path)) as file:
                return [b for b in pa.ipc.open_file(file).read_all().to_batches() if b.num_rows]
        except (OSError, pa.ArrowInvalid):
            return None

    def save(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        """Keep batches; a cache that cannot be written to is done without."""
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            with pa.OSFile(str(aside), "wb") as file, pa.ipc.new_file(file, schema, options=options) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            aside.replace(self._path)
        except OSError:
            aside.unlink(missing_ok=True)
