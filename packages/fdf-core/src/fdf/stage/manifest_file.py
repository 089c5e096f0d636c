"""How a manifest lies in its store: one JSON object; long lists beside it as parquet, named by checksum.

The file beside it is written first and never changed, so that a reader of any manifest finds the lists it names.
"""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fdf.errors import StageFailed
from fdf.fingerprint import sha256_hex
from fdf.storage.base import Store

LISTS = ("outputs", "dropped", "quarantine", "inputs")
MAX_INLINE = 10_000
"""Longer lists of outputs or inputs move beside the manifest, and with them all others."""

_ENTRY = pa.schema(
    [
        ("list", pa.string()),
        ("path", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("split", pa.string()),
        ("uri", pa.string()),
        ("version", pa.string()),
        ("error", pa.string()),
        ("extra_columns", pa.list_(pa.string())),
    ]
)
_FIELDS = {"inputs": ("uri", "version", "bytes", "rows", "extra_columns", "error")}
_FILE_FIELDS = ("path", "rows", "bytes", "sha256", "split")


def read_manifest(store: Store, path: str) -> tuple[dict[str, Any], str] | None:
    """Return the manifest with all its lists, and its tag; None where there is none. Raises StageFailed if damaged."""
    found = store.read_tagged(path)
    if found is None:
        return None
    try:
        manifest: dict[str, Any] = json.loads(found[0])
        beside = manifest.get("lists")
    except (ValueError, AttributeError) as error:
        raise StageFailed(
            f"{store.root}/{path} is not a manifest: {error}",
            help="restore it, or move the folder away and run again",
        ) from error
    if beside is not None:
        data = store.read(_folder(path) + beside["file"])
        if sha256_hex(data) != beside["sha256"]:
            raise StageFailed(
                f"{beside['file']} beside {store.root}/{path} does not have the checksum that the manifest names",
                help=f"fdf verify {store.root}",
            )
        manifest.update(_lists(data))
    return manifest, found[1]


def swap_manifest(store: Store, path: str, manifest: dict[str, Any], tag: str | None) -> bool:
    """Commit a manifest in place of the one with this tag; say whether it was still there.

    Its key `lists` then names the file beside it, or is None.
    """
    stored = manifest
    manifest["lists"] = None
    if max(len(manifest["outputs"]), len(manifest["inputs"])) > MAX_INLINE:
        data = _parquet(manifest)
        digest = sha256_hex(data)
        name = f"manifest.outputs-{digest[:12]}.parquet"
        store.put_if_absent(_folder(path) + name, data)
        manifest["lists"] = {"file": name, "sha256": digest}
        stored = {**manifest, **{k: [] for k in LISTS}}
    text = json.dumps(stored, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    return store.swap(path, text.encode(), tag)


def _folder(path: str) -> str:
    return path[: path.rfind("/") + 1]


def _parquet(manifest: dict[str, Any]) -> bytes:
    rows = [{"list": name, **entry} for name in LISTS for entry in manifest[name]]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_ENTRY), file, compression="zstd")
    return file.getvalue()


def _lists(data: bytes) -> dict[str, list[dict[str, Any]]]:
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in LISTS}
    for row in pq.read_table(io.BytesIO(data)).to_pylist():
        name = row["list"]
        lists[name].append({k: row[k] for k in _FIELDS.get(name, _FILE_FIELDS)})
    return lists
