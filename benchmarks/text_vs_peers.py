"""Measures FDF's text operators against other tools: one recipe, one corpus, the same cores, runs in turn.

    python benchmarks/text_vs_peers.py ../shared/data/web_mdn/mdn-*.jsonl.gz --where lang=en
    python benchmarks/text_vs_peers.py CORPUS... --mb 400 --peer-docs 2000 --runs 5

Every system is a whole process: it reads parquet and writes parquet packed with zstd. FDF runs with manifest and
provenance. datatrove runs the same recipe as FDF; Data-Juicer, dolma and NeMo Curator run their own heuristics, and FDF
the operators that correspond to them (benchmarks/peers/*.yaml say which). The floor reads and writes with pyarrow
alone. dolma reads and writes packed JSON lines: it does nothing else.

Start-up is what a run over a corpus of one document costs. Figures are given whole and without it; where it is most of
a run, what is left says nothing and is not told. CPU seconds are those of the process and all that came from it; peak
memory is the largest sum of what its processes hold (proportional set size, sampled). `--docs` bounds the corpus for
all, `--peer-docs` for all but FDF and the floor: then rates without start-up are compared, and no whole ones. With
`--mb` documents are made of lines of the corpus, from places drawn at random, until there is enough.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from peers.environment import python_of
from peers.measured import Usage, measured
from peers.text_corpus import Corpus, as_json_lines, make_corpus, make_single

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
FDF = Path(sys.executable).with_name("fdf")
Command = Callable[[Path, Path, int], list[object]]


@dataclass(frozen=True, kw_only=True)
class System:
    """Something that filters a folder of parquet files into another."""

    command: Command
    is_peer: bool = False


def fdf(recipe: str, **variables: str) -> System:
    """Return FDF with one of the recipes in benchmarks/peers."""
    given = [part for name, value in variables.items() for part in ("--set", f"vars.{name}={value}")]

    def command(source: Path, target: Path, workers: int) -> list[object]:
        places = ["--set", f"vars.input={source}", "--set", f"vars.output={target}"]
        return [FDF, "run", PEERS / recipe, "--runner", "local", "--workers", workers, *places, *given]

    return System(command=command)


def nemo_curator(executor: str) -> System:
    """Return NeMo Curator with one of its executors."""
    return System(
        command=lambda source, target, _: [
            *(python_of("nemo_curator"), PEERS / "nemo_curator_run.py", source, target, executor)
        ],
        is_peer=True,
    )


SYSTEMS: dict[str, System] = {
    "floor": System(command=lambda source, target, _: [sys.executable, PEERS / "floor_run.py", source, target]),
    "FDF, datatrove words": fdf("fdf_datatrove.yaml"),
    "FDF, whitespace words": fdf("fdf_datatrove.yaml", tokenizer="whitespace"),
    "datatrove": System(
        command=lambda source, target, workers: [
            *(python_of("datatrove"), PEERS / "datatrove_run.py", source, target, workers)
        ],
        is_peer=True,
    ),
    "FDF as Data-Juicer": fdf("fdf_data_juicer.yaml"),
    "Data-Juicer": System(
        command=lambda source, target, workers: [
            *(python_of("data_juicer").with_name("dj-process"), "--config", PEERS / "data_juicer.yaml"),
            *("--dataset_path", source, "--export_path", target / "out.parquet", "--np", workers),
        ],
        is_peer=True,
    ),
    "FDF as dolma": fdf("fdf_dolma.yaml"),
    "dolma": System(
        command=lambda source, target, workers: [
            *(python_of("dolma"), PEERS / "dolma_run.py", as_json_lines(source), target, workers)
        ],
        is_peer=True,
    ),
    "FDF as NeMo Curator": fdf("fdf_nemo_curator.yaml"),
    "NeMo Curator": nemo_curator("xenna"),
    "NeMo Curator, no executor": nemo_curator("none"),
}
COMPARISONS = (
    ("FDF, datatrove words", "datatrove"),
    ("FDF, whitespace words", "datatrove"),
    ("FDF as Data-Juicer", "Data-Juicer"),
    ("FDF as dolma", "dolma"),
    ("FDF as NeMo Curator", "NeMo Curator"),
    ("FDF as NeMo Curator", "NeMo Curator, no executor"),
    ("FDF, datatrove words", "floor"),
    ("FDF, whitespace words", "floor"),
)


def main() -> None:
    """Measure the systems in turn, then print what each took and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="+", type=Path, help="jsonl, jsonl.gz or parquet with a column `text`")
    parser.add_argument("--where", metavar="COLUMN=VALUE", help="only documents of which this column has this value")
    parser.add_argument("--mb", type=float, help="MB of text to make from the corpus's lines, instead of the corpus")
    parser.add_argument("--docs", type=int, help="only the first documents")
    parser.add_argument("--peer-docs", type=int, help="only the first documents, for all but FDF and the floor")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--cores", help="pin to these (as taskset has it); by default the last ones, as many as workers"
    )
    parser.add_argument("--folder", type=Path, default=Path(".fdf/text-vs-peers"))
    parser.add_argument("--json", type=Path, help="write every run's figures there")
    asked = parser.parse_args()
    every = os.cpu_count() or 1
    cores = asked.cores or f"{max(every - asked.workers, 0)}-{every - 1}"
    bench = Bench(folder=asked.folder.resolve(), workers=asked.workers, cores=cores)
    make = {"where": asked.where, "mb": asked.mb, "files": max(4, asked.workers)}
    whole = make_corpus(asked.corpus, bench.folder, docs=asked.docs, **make)
    for_peers = make_corpus(asked.corpus, bench.folder, docs=asked.peer_docs or asked.docs, **make)
    one = make_single(bench.folder)
    runs: dict[str, list[Run]] = {name: [] for name in asked.systems}
    # The first round is not counted: it makes environments, compiles kernels and fills the page cache.
    for number in range(asked.runs + 1):
        for name in asked.systems:
            corpus = for_peers if SYSTEMS[name].is_peer else whole
            empty = bench.run(name, one)
            full = empty if number == 0 else bench.run(name, corpus)
            if number:
                runs[name].append(Run(corpus=corpus, full=full, start=empty, kept=bench.kept(name)))
                print(f"{number}/{asked.runs} {name}: {full.cpu_s:.1f} CPU s", file=sys.stderr)
    if asked.json:
        asked.json.write_text(json.dumps({name: [run.figures() for run in held] for name, held in runs.items()}))
    print_systems(runs)
    print_ratios(runs)
    print(f"\n{asked.runs} runs in turn, {asked.workers} worker(s), cores {cores}, load {os.getloadavg()[1]:.1f}")


# --- one run ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a system over a corpus, and the one over a single document just before it."""

    corpus: Corpus
    full: Usage
    start: Usage
    kept: int

    @property
    def rates(self) -> dict[str, float]:
        """MB of text per CPU second and per second of the clock, whole and (where it can be told) without start-up."""
        told = {"CPU, whole": self.corpus.mb / self.full.cpu_s, "wall, whole": self.corpus.mb / self.full.wall_s}
        for name, full, start in (
            ("CPU, without start-up", self.full.cpu_s, self.start.cpu_s),
            ("wall, without start-up", self.full.wall_s, self.start.wall_s),
        ):
            if full - start > start / 2:
                told[name] = self.corpus.mb / (full - start)
        return told

    def figures(self) -> dict[str, object]:
        """Return everything that was measured."""
        return {
            "documents": self.corpus.documents,
            "mb": self.corpus.mb,
            "kept": self.kept,
            "full": vars(self.full),
            "start": vars(self.start),
        }


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where systems run."""

    folder: Path
    workers: int
    cores: str

    def run(self, name: str, corpus: Corpus) -> Usage:
        """Run a system over a corpus, from nothing, and measure it."""
        place = self.place(name)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        command = SYSTEMS[name].command(corpus.folder, place / "out", self.workers)
        environment = os.environ | {
            "FDF_HOME": str(place / "home"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(place / "datasets"),
            "DATA_JUICER_CACHE_HOME": str(place / "data_juicer"),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        pinned = ["taskset", "-c", self.cores, *map(str, command)]
        return measured(pinned, environment=environment, cwd=place, log=place / "log.txt")

    def kept(self, name: str) -> int:
        """Count the rows that the last run of a system wrote."""
        out = self.place(name) / "out"
        rows = sum(pq.read_metadata(file).num_rows for file in out.glob("*.parquet"))
        for packed in out.glob("*.json.gz"):
            with gzip.open(packed) as lines:
                rows += sum(1 for _ in lines)
        return rows

    def place(self, name: str) -> Path:
        """Return the folder that a system writes into."""
        return self.folder / "".join(letter if letter.isalnum() else "-" for letter in name.lower())


# --- tables -----------------------------------------------------------------------------------------------------------


def print_systems(runs: dict[str, list[Run]]) -> None:
    """Print the medians of every system."""
    head = ("system", "documents", "kept", "MB", "wall s", "CPU s", "start-up wall s", "start-up CPU s", "documents/s")
    head += ("MB/CPU s", "MB/CPU s without start-up", "peak MB")
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name, held in runs.items():
        corpus = held[0].corpus
        wall = statistics.median(run.full.wall_s for run in held)
        columns = (
            name,
            f"{corpus.documents:,}",
            f"{held[-1].kept:,}",
            f"{corpus.mb:.1f}",
            f"{wall:.1f}",
            f"{statistics.median(run.full.cpu_s for run in held):.1f}",
            f"{statistics.median(run.start.wall_s for run in held):.1f}",
            f"{statistics.median(run.start.cpu_s for run in held):.1f}",
            f"{corpus.documents / wall:,.0f}",
            median([run.rates.get("CPU, whole") for run in held]),
            median([run.rates.get("CPU, without start-up") for run in held]),
            f"{max(run.full.peak_mb for run in held):.0f}",
        )
        print("| " + " | ".join(columns) + " |")


def median(figures: list[float | None]) -> str:
    """Write the median of some figures, or that there is none."""
    told = [figure for figure in figures if figure is not None]
    return f"{statistics.median(told):.2f}" if len(told) == len(figures) else "-"


def print_ratios(runs: dict[str, list[Run]]) -> None:
    """Print how many times the rate of each peer FDF reaches: the median of the runs next to each other, min, max."""
    rates = ("CPU, whole", "CPU, without start-up", "wall, whole", "wall, without start-up")
    print("\n| FDF | against | " + " | ".join(rates) + " |\n|" + "---|" * (2 + len(rates)))
    for ours, theirs in COMPARISONS:
        if ours in runs and theirs in runs:
            told = [ratio(runs[ours], runs[theirs], rate) for rate in rates]
            print(f"| {ours} | {theirs} | " + " | ".join(told) + " |")


def ratio(ours: list[Run], theirs: list[Run], rate: str) -> str:
    """Write the median of the ratios of one rate, and between which they lie, where both sides can tell it."""
    pairs = list(zip(ours, theirs, strict=True))
    if "whole" in rate and ours[0].corpus != theirs[0].corpus:
        return "-"
    ratios = [a.rates[rate] / b.rates[rate] for a, b in pairs if rate in a.rates and rate in b.rates]
    if len(ratios) < len(pairs):
        return "-"
    return f"{statistics.median(ratios):.3g} ({min(ratios):.3g} - {max(ratios):.3g})"


if __name__ == "__main__":
    main()
