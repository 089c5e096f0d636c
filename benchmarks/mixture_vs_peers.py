"""Measures FDF's mixtures against other tools: how far each strays from what was asked, and rows per CPU second.

    python benchmarks/mixture_vs_peers.py ../shared/data/web_mdn/mdn-*.jsonl.gz

Four cases: three sources of text with log-normal lengths, made from lines of the corpus (weights .6, .3, .1); one large
source and 63 tiny ones; Zipf over 20; a draw from Dirichlet over 32 (these three of made-up text, lengths log-normal,
another mean in each source). Each tool draws the same files, in a process and an environment of its own, in turn:
once with weights for rows, and once for bytes. Other tools know rows only: for bytes they are given the weights divided
by the sources' mean sizes, the best that can be done with them.

How far: the largest distance, over all prefixes and sources, of what a source has given (rows, or bytes) from its
share of what all have given. Beside it stands the largest document that the tool drew: one of size L, of a source with
the share w, alone moves that source by (1 - w) L, so that nobody stays closer than half of that. CPU seconds go from
when the tool is imported to the last row, as Python values; FDF is told cold (it measures all sizes first) and warm
(they are remembered).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from peers.environment import python_of
from peers.text_corpus import text_rows

HERE = Path(__file__).resolve().parent
ONE = HERE / "peers" / "mixture_run.py"
TOOLS = {"FDF": "fdf", "HF datasets": "hugging_face", "litdata": "litdata", "grain": "grain"}
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sources as files, and the share that each should have."""

    folder: Path
    weights: Floats
    means: Floats
    """The mean size of a source's documents."""
    rows: int

    def given(self, tool: str, unit: str) -> list[float]:
        """Return the weights that a tool is given, so that shares of this unit come out."""
        weights = self.weights / self.means if unit == "bytes" and tool != "fdf" else self.weights
        return [float(w) for w in weights / weights.sum()]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a tool drew."""

    deviation: float
    """In the unit that was asked for."""
    in_bytes: float
    largest: int
    """The largest document that was drawn, in bytes."""
    rows: int
    cpu_s: float


def main() -> None:
    """Make the cases, let the tools draw in turn, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="+", type=Path, help="jsonl, jsonl.gz or parquet with a column `text`")
    parser.add_argument("--rows", type=int, default=20_000, help="draw at most so many rows")
    parser.add_argument("--runs", type=int, default=3, help="of the case with text; the others are drawn once")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--only-text", action="store_true", help="only the case with text")
    parser.add_argument("--folder", type=Path, default=Path(".fdf/mixture-vs-peers"))
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    only = 1 if asked.only_text else None
    cases = make_cases(asked.corpus, folder, asked.rows, only=only, litdata="litdata" in asked.tools)
    heads = ("case", "tool", "rows asked: rows off", "bytes off", "bytes asked: bytes off", "largest document")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    rates: dict[str, list[float]] = {}
    for name, case in cases.items():
        real = name.startswith("3 ")
        held: dict[tuple[str, str], list[Run]] = {}
        for number in range(asked.runs if real else 1):
            for tool in asked.tools:
                for unit in ("rows", "bytes"):
                    for warm in (False, True) if tool == "FDF" and real else (False,):
                        run = draw(TOOLS[tool], case, unit, folder, warm=warm)
                        held.setdefault((tool, unit), []).append(run)
                        if real:
                            label = f"{tool}, by {unit}" + (", sizes known" if warm else "")
                            rates.setdefault(label, []).append(run.rows / run.cpu_s)
                        print(f"{number + 1} {name} {tool} {unit}: {run}", file=sys.stderr)
        for tool in asked.tools:
            by_rows, by_bytes = held[tool, "rows"][-1], held[tool, "bytes"][-1]
            figures = (by_rows.in_bytes, by_bytes.deviation, by_bytes.largest)
            print(f"| {name} | {tool} | {by_rows.deviation:,.2f} | {' | '.join(f'{f:,.0f}' for f in figures)} |")
    print("\n| 3 sources of text | rows per CPU second | min | max |\n|---|---|---|---|")
    for label, found in rates.items():
        print(f"| {label} | {statistics.median(found):,.0f} | {min(found):,.0f} | {max(found):,.0f} |")
    print(f"\n{asked.runs} runs in turn, load {os.getloadavg()[1]:.1f}")


def draw(tool: str, case: Case, unit: str, folder: Path, *, warm: bool) -> Run:
    """Let a tool draw from a case in a process of its own."""
    python = sys.executable if tool == "fdf" else str(python_of(f"mix_{tool}"))
    cache = folder / "cache"
    if not warm:
        shutil.rmtree(cache / "mixture-sizes", ignore_errors=True)
    out = folder / "drawn"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "FDF_CACHE": str(cache), "FDF_HOME": str(folder / "home")}
    environment |= {"HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    name = f"fdf_{unit}" if tool == "fdf" else tool
    weights = [str(w) for w in case.given(tool, unit)]
    command = [python, str(ONE), name, str(case.folder), str(case.rows), str(out), *weights]
    done = subprocess.run(  # noqa: S603 (our own paths)
        command, capture_output=True, text=True, check=False, env=environment, cwd=folder
    )
    if done.returncode:
        raise RuntimeError(f"{tool} failed:\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    sources, sizes = np.split(np.fromfile(out, dtype=np.int64), 2)
    in_bytes = deviation(sources, sizes.astype(np.float64), case.weights)
    in_rows = deviation(sources, np.ones(len(sizes)), case.weights)
    return Run(
        deviation=in_rows if unit == "rows" else in_bytes,
        in_bytes=in_bytes,
        largest=int(sizes.max()),
        rows=told["rows"],
        cpu_s=told["cpu_s"],
    )


def deviation(sources: npt.NDArray[np.int64], amounts: Floats, weights: Floats) -> float:
    """Return the largest distance of a source from its share, over all prefixes."""
    total = np.cumsum(amounts)
    return max(
        float(np.abs(np.cumsum(np.where(sources == i, amounts, 0)) - w * total).max()) for i, w in enumerate(weights)
    )


# --- what is mixed ----------------------------------------------------------------------------------------------------


def make_cases(corpus: list[Path], folder: Path, rows: int, *, only: int | None, litdata: bool) -> dict[str, Case]:
    """Write the files of the first cases; `only` None: of all."""
    dice = np.random.default_rng(7)
    zipf = 1 / np.arange(1, 21)
    drawn = np.maximum(dice.dirichlet(np.ones(32)), 1e-3)
    shares = {
        "3 sources of text, log-normal": np.array([0.6, 0.3, 0.1]),
        "1 large and 63 tiny": np.array([0.5, *[0.5 / 63] * 63]),
        "Zipf-20": zipf / zipf.sum(),
        "Dirichlet-32": drawn / drawn.sum(),
    }
    lines = [line for row in text_rows(corpus, where=None) for line in row["text"].splitlines() if line]
    cases = {}
    for name, weights in islice(shares.items(), only):
        place = folder / name.replace(" ", "-").replace(",", "")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        means = np.zeros(len(weights))
        for source, weight in enumerate(weights):
            # So many that no source ends before the rows are drawn, whatever a tool makes of the weights.
            count = int(rows * weight * 4) + 50
            texts = list(islice(made_of(lines, source) if len(weights) == 3 else made_up(source), count))
            means[source] = write(place, source, texts)
        if litdata:
            convert = [str(python_of("mix_litdata")), str(HERE / "peers" / "mixture_as_litdata.py"), str(place)]
            subprocess.run(convert, check=True)  # noqa: S603 (our own paths)
        cases[name] = Case(folder=place, weights=weights, means=means, rows=rows)
    return cases


def made_of(lines: list[str], source: int) -> Iterator[str]:
    """Yield documents of log-normally many neighbouring lines; each source has another mean."""
    draw = random.Random(source)  # noqa: S311 (the same corpus every time)
    while True:
        start = draw.randrange(len(lines))
        yield "\n".join(lines[start : start + max(1, int(draw.lognormvariate(1.5 + source, 1)))])


def made_up(source: int) -> Iterator[str]:
    """Yield documents of log-normal length."""
    draw = random.Random(source)  # noqa: S311 (the same corpus every time)
    mean = 3 + source % 4
    while True:
        yield "x" * max(1, int(draw.lognormvariate(mean, 1)))


def write(place: Path, source: int, texts: list[str]) -> float:
    """Write a source as parquet; return its mean size."""
    sizes = [len(t.encode()) for t in texts]
    table = pa.table({"source": [source] * len(texts), "size": sizes, "text": texts})
    file = place / f"s{source:03}.parquet"
    pq.write_table(table, file, compression="zstd", row_group_size=1000)
    return float(np.mean(sizes))


if __name__ == "__main__":
    main()
