"""Measures what the engine costs: against plain pyarrow on the same bytes, per tiny split, in memory, and for listing.

    python benchmarks/overhead.py time      # engine with no operators against read + write, alternating, two processes
                                            # (--folder on a tmpfs leaves the disk out of it)
    python benchmarks/overhead.py splits    # 10,000 splits of 10 rows: milliseconds per split
    python benchmarks/overhead.py memory    # peak memory of a worker on the same input
    python benchmarks/overhead.py listing   # a plan of a million splits: seconds to the first, peak memory

The input is text from the installation (the demo's corpus), shuffled by line into documents until `--gb` is reached.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
FILES = 16
PROVENANCE_CASES: dict[str, tuple[str, list[dict[str, Any]], float]] = {
    "provenance none": ("none", [], 1.25),
    "provenance full, 12 passthroughs, 12 constant scores": (
        "full",
        [{"id": f"pass.{i}", "kind": "refiner", "op": "PassthroughRefiner"} for i in range(12)]
        + [{"id": f"one.{i}", "kind": "score", "op": f"{HERE / 'constant_scores.py'}:one_{i:02}"} for i in range(12)],
        1.5,
    ),
}


def main() -> None:
    """Run one of the measurements and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["time", "splits", "memory", "listing"])
    parser.add_argument("--folder", type=Path, default=Path(".fdf/benchmarks"), help="where data is made and written")
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"), help="for tiny splits")  # noqa: S108
    parser.add_argument("--gb", type=float, default=2.0, help="Arrow bytes of the input")
    parser.add_argument("--splits", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    {"time": measure_time, "splits": measure_splits, "memory": measure_memory, "listing": measure_listing}[asked.what](
        asked
    )


# --- the engine against the floor ------------------------------------------------------------------------------------


def measure_time(asked: argparse.Namespace) -> None:
    """Alternate the floor and the engine's cases; print medians and ratios of the runs next to each other."""
    data = corpus(asked.folder, asked.gb)
    floors: dict[str, list[Spent]] = {name: [] for name in PROVENANCE_CASES}
    engine: dict[str, list[Spent]] = {name: [] for name in PROVENANCE_CASES}
    for _ in range(asked.runs + 1):
        for name, (provenance, operators, _) in PROVENANCE_CASES.items():
            floors[name].append(spent(lambda: floor(data, asked.folder / "floor", asked.processes)))
            engine[name].append(
                spent(
                    lambda p=provenance, o=operators: run_engine(
                        data, asked.folder / "run", provenance=p, operators=o, workers=asked.processes
                    )
                )
            )
    print("| case | pyarrow s | FDF s | ratio (min - max) | ratio of CPU time (min - max) | asked |")
    print("|---|---|---|---|---|---|")
    for name, (_, _, bound) in PROVENANCE_CASES.items():
        # The first run of each warms the page cache.
        pairs = list(zip(engine[name][1:], floors[name][1:], strict=True))
        wall = [e.wall / f.wall for e, f in pairs]
        cpu = [e.cpu / f.cpu for e, f in pairs]
        print(
            f"| {name} | {statistics.median(f.wall for _, f in pairs):.1f} "
            f"| {statistics.median(e.wall for e, _ in pairs):.1f} "
            f"| {statistics.median(wall):.2f} ({min(wall):.2f} - {max(wall):.2f}) "
            f"| {statistics.median(cpu):.2f} ({min(cpu):.2f} - {max(cpu):.2f}) | {bound} |"
        )


def floor(data: Path, out: Path, processes: int) -> None:
    """Read and write every file with pyarrow alone, row group by row group, one native thread per process."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with get_context("spawn").Pool(processes) as pool:
        pool.starmap(copy_file, [(file, out / file.name) for file in sorted(data.iterdir())], chunksize=1)


def copy_file(source: Path, target: Path) -> None:
    """Copy one parquet file through Arrow with the options that FDF writes with."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    reader = pq.ParquetFile(source)
    with pq.ParquetWriter(
        target, reader.schema_arrow, compression="zstd", compression_level=3, version="2.6"
    ) as writer:
        for number in range(reader.num_row_groups):
            writer.write_table(reader.read_row_group(number, use_threads=False))


def run_engine(
    data: Path, out: Path, *, provenance: str, operators: list[dict[str, Any]], workers: int, runner: str = "local"
) -> None:
    """Run a recipe of one stage with these operators over the data, from nothing."""
    import fdf

    shutil.rmtree(out, ignore_errors=True)
    os.environ["FDF_HOME"] = str(out / "home")
    stage = {"name": "copy", "materialize": {"path": str(out / "copy")}, "operators": operators}
    recipe = {"name": "overhead", "provenance": provenance, "input": {"type": "parquet", "path": str(data)}}
    fdf.run(recipe | {"stages": [stage]}, runner=runner, workers=workers)


# --- tiny splits -----------------------------------------------------------------------------------------------------


def measure_splits(asked: argparse.Namespace) -> None:
    """Run many files of 10 rows on a tmpfs and on the disk; print milliseconds of wall time per split."""
    print("| where | splits | ms per split | ms per split when nothing is to do |\n|---|---|---|---|")
    keep = [{"id": "keep", "kind": "filter", "op": "ThresholdFilter", "params": {"field": "n", "ge": 2}}]
    for name, place in (("tmpfs", asked.tmpfs), ("disk", asked.folder)):
        root = place / "fdf-tiny-splits"
        first, again = tiny_splits(root, keep, splits=asked.splits, workers=asked.processes)
        print(f"| {name} | {asked.splits:,} | {first:.2f} | {again:.2f} |")


def tiny_splits(root: Path, operators: list[dict[str, Any]], *, splits: int, workers: int) -> tuple[float, float]:
    """Return milliseconds per split of a run from nothing, and of the run after it."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "in").mkdir(parents=True)
    table = pa.table({"text": ["ten words"] * 10, "n": list(range(10))})
    for number in range(splits):
        pq.write_table(table, root / "in" / f"{number:06}.parquet")
    first = seconds(
        lambda: run_engine(root / "in", root / "run", provenance="full", operators=operators, workers=workers)
    )
    again = seconds(lambda: rerun(root / "in", root / "run", operators, workers))
    shutil.rmtree(root)
    return first * 1000 / splits, again * 1000 / splits


def rerun(data: Path, out: Path, operators: list[dict[str, Any]], workers: int) -> None:
    """Run the same recipe where it was run already."""
    import fdf

    stage = {"name": "copy", "materialize": {"path": str(out / "copy")}, "operators": operators}
    recipe = {"name": "overhead", "provenance": "full", "input": {"type": "parquet", "path": str(data)}}
    fdf.run(recipe | {"stages": [stage]}, runner="local", workers=workers)


# --- memory ----------------------------------------------------------------------------------------------------------


def measure_memory(asked: argparse.Namespace) -> None:
    """Run over the input in one file, alone in a process; print the peak memory of that process."""
    data = corpus(asked.folder, asked.gb, files=1)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import overhead, pathlib\n"
        "cases = overhead.PROVENANCE_CASES['provenance full, 12 passthroughs, 12 constant scores']\n"
        "overhead.run_engine(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), provenance='full',"
        " operators=cases[1], workers=1, runner='serial')\n"
        "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, str(HERE), str(data), str(asked.folder / "run")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 (our own code)
    size = sum(f.stat().st_size for f in data.iterdir())
    print("| input, Arrow GB | input, file MB | peak MB |\n|---|---|---|")
    print(f"| {asked.gb:g} | {size / 1e6:.0f} | {int(done.stdout.split()[-1]) * 1024 / 1e6:.0f} |")


# --- listing ---------------------------------------------------------------------------------------------------------


class Counting:
    """A runner that runs nothing: it draws every task, and notes when the first one came."""

    name = "counting"

    def __init__(self) -> None:
        self.first: float | None = None
        self.count = 0

    def check(self, plan: Any) -> None:
        """Accept everything."""

    def run(self, tasks: Iterable[Any], emit: Callable[[Any], None], cancel: Any) -> None:
        """Draw the tasks."""
        for _ in tasks:
            self.first = self.first or time.perf_counter()
            self.count += 1
        raise Enough


class Enough(Exception):
    """All tasks were drawn."""


def measure_listing(asked: argparse.Namespace) -> None:
    """Plan a million byte ranges of JSON lines; print seconds to the first task, to the last, and peak memory."""
    import fdf

    root = asked.folder / "listing"
    shutil.rmtree(root, ignore_errors=True)
    (root / "in").mkdir(parents=True)
    line = json.dumps({"n": 1}) + "\n"
    (root / "in" / "a.jsonl").write_text(line * 1_000_000)
    os.environ["FDF_HOME"] = str(root / "home")
    before = psutil.Process().memory_info().rss
    source = {"type": "jsonl", "path": str(root / "in"), "split_size": len(line)}
    stage = {"name": "s", "materialize": {"path": str(root / "s")}, "operators": []}
    runner = Counting()
    started = time.perf_counter()
    with suppress(Enough):
        fdf.run({"name": "listing", "input": source, "stages": [stage]}, runner=runner)
    total = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    shutil.rmtree(root)
    print("| splits | s to the first | s to the last | MB before | peak MB |\n|---|---|---|---|---|")
    first = (runner.first or 0) - started
    print(f"| {runner.count:,} | {first:.2f} | {total:.1f} | {before / 1e6:.0f} | {peak / 1e6:.0f} |")


# --- the input -------------------------------------------------------------------------------------------------------


def corpus(folder: Path, gb: float, *, files: int = FILES) -> Path:
    """Make (once) parquet files of documents of log-normal length, made of lines of real text; return their folder."""
    data = folder / f"corpus-{gb:g}gb-{files}"
    if data.exists():
        return data
    text = folder / "text"
    subprocess.run([sys.executable, str(HERE.parent / "demo" / "collect.py"), str(text)], check=True)  # noqa: S603
    import polars as pl

    lines = [ln for doc in pl.read_ndjson(sorted(text.glob("*.gz")))["text"].to_list() for ln in doc.splitlines() if ln]
    aside = data.with_suffix(".part")
    aside.mkdir(parents=True)
    draw = random.Random(7)  # noqa: S311 (the same corpus every time)
    per_file = int(gb * 1e9 / files)
    for number in range(files):
        with pq.ParquetWriter(
            aside / f"{number:03}.parquet", pa.schema([("text", pa.string()), ("n", pa.int64())]), compression="zstd"
        ) as writer:
            written = 0
            while written < per_file:
                documents = []
                held = 0
                while held < min(32 << 20, per_file - written):
                    start = draw.randrange(len(lines))
                    documents.append("\n".join(lines[start : start + max(1, int(draw.lognormvariate(3.5, 1)))]))
                    held += len(documents[-1]) + 16
                table = pa.table({"text": documents, "n": list(range(len(documents)))})
                writer.write_table(table)
                written += held
    aside.rename(data)
    return data


class Spent(NamedTuple):
    """What some work took: seconds on the clock, and of CPU in this process and the ones that it started."""

    wall: float
    cpu: float


def spent(work: Callable[[], object]) -> Spent:
    """Do some work, and say what it took."""
    cpu = cpu_seconds()
    wall = seconds(work)
    return Spent(wall, cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it has started and buried, so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds that some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
