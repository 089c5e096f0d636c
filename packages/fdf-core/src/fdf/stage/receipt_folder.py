"""The receipts of one fingerprint and generation: single files while a stage runs, one index when there are very many.

An index is a convenience: an entry counts only while its files are there, and a single receipt of the same split
counts more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from fdf.fingerprint import sha256_hex
from fdf.plan.task import SplitKey
from fdf.stage.receipt import Receipt
from fdf.storage.base import Store

MAX_SINGLE = 10_000
INDEX = "index-"


class ReceiptFolder:
    """Reads, removes and compacts receipts below one folder of a store."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._indexes: dict[str, set[str]] = {}

    def path(self, key: SplitKey) -> str:
        """Return where the receipt of a split is."""
        return f"{self._folder}{key.receipt_name}"

    def load(self, list_sizes: Callable[[], dict[str, int]]) -> dict[SplitKey, Receipt]:
        """Return the receipts whose files are all there, by size; remove single ones whose are not, and cut files.

        Sizes are listed after the receipts: another driver places its files first, so none of its receipts is taken
        for a broken one.
        """
        paths = [e.path for e in self._store.list(self._folder)]
        indexes = {p: self.read_index(p) for p in paths if p.removeprefix(self._folder).startswith(INDEX)}
        singles = list(self._read_all((p for p in paths if p not in indexes), gone_is_fine=True))
        sizes = list_sizes()
        done: dict[SplitKey, Receipt] = {}
        for path, receipts in indexes.items():
            self._indexes[path] = {r.key.receipt_name for r in receipts}
            done.update({r.key: r for r in receipts if not self._lacks(r, sizes)})
        for path, receipt in singles:
            if receipt is None or self._lacks(receipt, sizes):
                # Without its files a receipt is a promise that cannot be kept, and it would block the new one.
                self._store.delete([path])
                if receipt is not None:
                    done.pop(receipt.key, None)
            else:
                done[receipt.key] = receipt
        return done

    def _lacks(self, receipt: Receipt, sizes: dict[str, int]) -> bool:
        """Say whether a file of the receipt is gone or cut; a cut one is removed, as its name would be taken."""
        wrong = [f.path for f in receipt.files if sizes.get(f.path) != f.bytes]
        self._store.delete([p for p in wrong if p in sizes])
        return bool(wrong)

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, Receipt | None]]:
        """Yield single receipts, None for one that is not readable. Raises FileNotFoundError."""
        return self._read_all(paths, gone_is_fine=False)

    def _read_all(self, paths: Iterable[str], *, gone_is_fine: bool) -> Iterator[tuple[str, Receipt | None]]:
        def read(path: str) -> tuple[str, Receipt | None] | None:
            try:
                data = self._store.read(path)
            except FileNotFoundError:
                if gone_is_fine:
                    return None
                raise
            try:
                return path, Receipt.from_bytes(data)
            except (ValueError, KeyError, TypeError):
                return path, None

        with ThreadPoolExecutor(max_workers=8) as pool:
            yield from (found for found in pool.map(read, paths) if found is not None)

    def compact(self, receipts: Sequence[Receipt]) -> None:
        """Move the receipts of a committed stage into one index where single ones are too many, or an index is old."""
        current = {r.key.receipt_name for r in receipts}
        stale = [path for path, names in self._indexes.items() if not names <= current]
        single = [e.path for e in self._store.list(self._folder) if e.path not in self._indexes]
        if not stale and len(single) <= MAX_SINGLE:
            return
        data = b"\n".join(r.to_bytes() for r in receipts)
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        name = f"{self._folder}{INDEX}{sha256_hex(data)[:12]}.jsonl.zst"
        self._store.put_if_absent(name, sink.getvalue().to_pybytes())
        self._store.delete([p for p in self._indexes if p != name])
        self._store.delete([p for p in single if p.removeprefix(self._folder) in current])
        self._indexes = {name: current}

    def read_index(self, path: str) -> list[Receipt]:
        """Return the receipts of an index; none where it is gone or damaged."""
        try:
            with pa.CompressedInputStream(pa.BufferReader(self._store.read(path)), "zstd") as stream:
                return [Receipt.from_bytes(line) for line in stream.read().splitlines()]
        except (OSError, ValueError, KeyError, TypeError):
            # Gone or damaged: what it held runs again, and the next commit writes a new one.
            return []
