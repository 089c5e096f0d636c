"""Collects the demo's corpus: real text that every Python installation already has, as gzipped JSON Lines.

Docstrings and long comments of the standard library, the descriptions (README) and licence texts of the installed
distributions: prose, code, tables, many short fragments and natural duplicates, a few megabytes in all. Nothing is
fetched and no module is imported: sources are parsed. Rows are ``{"id", "text", "origin"}``, in the same order and
the same bytes for the same installation.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

BYTES_PER_SHARD = 1 << 20
SHARDS = 8
COMMENT_LINES = 4
"""Shorter runs of comment lines are remarks on code, not text."""
SKIPPED_FOLDERS = frozenset({"__pycache__", "site-packages", "dist-packages", "test", "tests", "_vendor", "idle_test"})
LICENCE_STEMS = frozenset({"license", "licence", "copying", "notice", "authors"})


class Document(NamedTuple):
    """One row of the corpus."""

    id: str
    text: str
    origin: str


def main() -> int:
    """Write the corpus below the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the shards go; corpus-*.jsonl.gz there are replaced")
    folder: Path = parser.parse_args().folder
    shards = cut(documents(), size=BYTES_PER_SHARD, at_most=SHARDS)
    folder.mkdir(parents=True, exist_ok=True)
    written = set()
    rows = text_bytes = 0
    for number, shard in enumerate(shards):
        path = folder / f"corpus-{number:05d}.jsonl.gz"
        store(shard, path)
        written.add(path)
        rows += len(shard)
        text_bytes += sum(len(document.text.encode()) for document in shard)
    for stale in set(folder.glob("corpus-*.jsonl.gz")) - written:
        stale.unlink()
    if not rows:
        print("no text was found in this Python installation: is its standard library zipped?", file=sys.stderr)
        return 1
    print(f"corpus: {rows:,} documents, {text_bytes / 1e6:.1f} MB of text, {len(written)} files in {folder}")
    return 0


def documents() -> Iterator[Document]:
    """Yield the corpus in its fixed order: distributions by name, then the standard library by path."""
    for distribution in sorted(metadata.distributions(), key=lambda d: d.metadata["Name"].lower()):
        yield from from_distribution(distribution)
    root = Path(sysconfig.get_path("stdlib"))
    for path in python_files(root):
        yield from from_source(path, f"stdlib/{path.relative_to(root).as_posix()}")


def from_distribution(distribution: metadata.Distribution) -> Iterator[Document]:
    """Yield what an installed distribution says of itself: its description (README) and its licence texts."""
    name = distribution.metadata["Name"]
    if "Description" in distribution.metadata:
        yield Document(f"{name}#readme", distribution.metadata["Description"], f"{name}/README")
    for file in sorted(distribution.files or (), key=str):
        if file.name.split(".")[0].lower() in LICENCE_STEMS and file.suffix in {"", ".txt", ".md", ".rst"}:
            text = readable(Path(str(file.locate())))
            if text:
                yield Document(f"{name}#{file.as_posix()}", text, f"{name}/{file.name}")


def python_files(root: Path) -> Iterator[Path]:
    """Yield the Python sources below a folder, sorted by path, without test suites and vendored copies."""
    for path in sorted(root.rglob("*.py")):
        if SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts[:-1]):
            yield path


def from_source(path: Path, origin: str) -> Iterator[Document]:
    """Yield a source file's docstrings and long comments."""
    source = readable(path)
    if not source:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # Templates and files for other Python versions.
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                line = getattr(node, "lineno", 1)
                yield Document(f"{origin}#L{line}:doc", text, origin)
    for line, text in comments(source):
        yield Document(f"{origin}#L{line}:comment", text, origin)


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield runs of whole-line comments with the number of their first line, markers removed."""
    run: list[str] = []
    for number, line in enumerate([*source.splitlines(), ""], start=1):
        stripped = line.lstrip()
        if stripped.startswith("#"):
            run.append(stripped.lstrip("#").removeprefix(" "))
            continue
        if len(run) >= COMMENT_LINES:
            yield number - len(run), "\n".join(run)
        run = []


def readable(path: Path) -> str | None:
    """Return a UTF-8 text file's content, or None for one that is absent or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def cut(rows: Iterator[Document], *, size: int, at_most: int) -> Iterator[list[Document]]:
    """Cut the corpus into shards of about `size` bytes of text, and stop after `at_most` of them."""
    shard: list[Document] = []
    held = 0
    for row in rows:
        shard.append(row)
        held += len(row.text.encode())
        if held >= size:
            yield shard
            at_most -= 1
            if not at_most:
                return
            shard, held = [], 0
    if shard:
        yield shard


def store(shard: list[Document], path: Path) -> None:
    """Write one shard whole: the same rows give the same bytes, so that an unchanged corpus stays unread."""
    lines = "".join(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in shard)
    data = gzip.compress(lines.encode(), compresslevel=6, mtime=0)
    if path.exists() and path.read_bytes() == data:
        return
    aside = path.with_suffix(".part")
    aside.write_bytes(data)
    aside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
