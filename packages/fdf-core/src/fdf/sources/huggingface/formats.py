"""Which reader a dataset's files are for: the format that most of them have.

The count and its ties are those of `datasets` (5.2, `infer_module_for_data_files_list`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fdf.errors import MissingDependency

FORMATS = {
    ".parquet": "parquet", ".geoparquet": "parquet", ".gpq": "parquet",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".csv": "csv", ".tsv": "csv",
    ".arrow": "arrow",
    ".txt": "text",
    ".tar": "webdataset",
}  # fmt: skip
"""The source that reads a format as `datasets` would."""
OTHER = "other"
"""What only `datasets` can read."""
_FAVOURITES = (".parquet", ".lance", ".vortex", ".arrow", ".jsonl", ".json", ".csv")
_PACKED = {"jsonl": ("gz", "zst"), "csv": ("gz", "zst"), "text": ("gz", "zst"), "webdataset": ("gz",)}
"""The compressions that FDF's own sources read."""
_COMPRESSIONS = ("gz", "zst", "zstd", "bz2", "xz", "lz4")


def format_of(files: Iterable[str]) -> str:
    """Return the format that most files have by their endings: one of `FORMATS`, or `OTHER`.

    Raises MissingDependency where only `datasets` knows what the files are and it is not installed.
    """
    paths = list(files)
    counted = Counter(ending for path in paths for ending in endings(path))
    ranked = sorted(counted, key=lambda e: (counted[e], *(e == f for f in _FAVOURITES), e), reverse=True)
    for ending in ranked:
        if ending in FORMATS:
            return FORMATS[ending] if _readable(FORMATS[ending], of_format(paths, FORMATS[ending])) else OTHER
        if ending.lstrip(".") not in _COMPRESSIONS and ending in _known_to_datasets(ending):
            return OTHER
    return OTHER


def of_format(files: Iterable[str], format: str) -> list[str]:  # noqa: A002 - the word for it
    """Return the files of a format; a card, a licence or a picture beside the data is none."""
    return [path for path in files if any(FORMATS.get(e) == format for e in endings(path))]


def endings(path: str) -> list[str]:
    """Return every ending of a file's name, in lower case.

    >>> endings("data/train.jsonl.gz")
    ['.jsonl', '.gz']
    """
    return ["." + part.lower() for part in path.rsplit("/", 1)[-1].split(".")[1:]]


def _readable(format: str, files: Iterable[str]) -> bool:  # noqa: A002 - as above
    """Say whether FDF's source takes all of these: it knows them by their endings, packed or not."""
    packed = _PACKED.get(format, ())
    lasts = [path.lower().rsplit(".", 1)[-1] for path in files]
    return all("." + last in FORMATS or last in packed for last in lasts)


def _known_to_datasets(ending: str) -> set[str]:
    try:
        from datasets.packaged_modules import _EXTENSION_TO_MODULE
    except ImportError as error:
        raise MissingDependency(
            f"files that end in {ending} can only be read by the package `datasets`, which is not installed",
            help='pip install "fdf-core[huggingface]", or name other files with `data_files`',
        ) from error
    return {*_EXTENSION_TO_MODULE, ".zip"}
