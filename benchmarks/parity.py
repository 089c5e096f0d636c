"""Compares FDF's decisions with those of the tool that a preset is named after, per filter and per reason.

    python benchmarks/parity.py ../shared/data/web_mdn/mdn-*.jsonl.gz --where lang=en
    python benchmarks/parity.py corpus.parquet --peer dolma --limit 1000

The peer runs in an environment of its own, made from benchmarks/peers/<peer>.txt where it is absent, on the same
documents. Every filter sees the original text, alone. A document counts as equal if both keep it, or both drop it for
the same reason. Corpora: jsonl (plain or .gz) or parquet with a text column; documents without `id` go by their place
in the corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from peers.environment import python_of
from peers.text_corpus import text_rows

HERE = Path(__file__).resolve().parent
KEEP = "keep"
Operators = list[tuple[str, str, dict[str, Any]]]
NO_TERMINAL = {"preset": "datatrove", "terminal_punct": False}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A tool, and the operators of FDF that decide as each of its filters."""

    filters: dict[str, Operators]
    names: dict[str, str] = field(default_factory=dict)
    """What the peer calls FDF's reasons, where it does not call them the same."""


PEERS = {
    "datatrove": Peer(
        filters={
            "gopher_quality": [("filter", "GopherQualityFilter", {"preset": "datatrove"})],
            "gopher_repetition": [("filter", "GopherRepetitionFilter", {"preset": "datatrove"})],
            "c4": [
                ("filter", "C4QualityFilter", {"preset": "datatrove"}),
                ("refiner", "RemoveLines", {"preset": "datatrove"}),
            ],
            "c4_no_terminal": [("filter", "C4QualityFilter", NO_TERMINAL), ("refiner", "RemoveLines", NO_TERMINAL)],
            "fineweb": [("filter", "FineWebQualityFilter", {"preset": "datatrove"})],
        }
    ),
    "dolma": Peer(
        filters={
            "gopher_v1": [
                ("filter", "GopherQualityFilter", {"preset": "dolma"}),
                ("filter", "GopherRepetitionFilter", {"preset": "dolma"}),
            ],
        },
        names={
            "gopher_short_doc": "word_count",
            "gopher_long_doc": "word_count",
            "gopher_below_avg_threshold": "median_word_length",
            "gopher_above_avg_threshold": "median_word_length",
            "gopher_too_many_symbols": "symbol_to_word_ratio",
            "gopher_below_alpha_threshold": "fraction_of_words_with_alpha_character",
            "gopher_enough_stop_words": "required_word_count",
            "gopher_too_many_bullets": "fraction_of_lines_starting_with_bullet_point",
            "gopher_too_many_end_ellipsis": "fraction_of_lines_ending_with_ellipsis",
            "dup_line_frac": "fraction_of_duplicate_lines",
            "dup_line_char_frac": "fraction_of_characters_in_duplicate_lines",
            **{f"top_{n}_gram": f"fraction_of_characters_in_most_common_{n}grams" for n in (2, 3, 4)},
            **{f"duplicated_{n}_n_grams": f"fraction_of_characters_in_duplicate_{n}grams" for n in range(5, 11)},
        },
    ),
}


def main() -> None:
    """Decide on the corpus on both sides and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="+", type=Path)
    parser.add_argument("--peer", choices=PEERS, default="datatrove")
    parser.add_argument("--filters", nargs="+", help="only these of the peer's filters")
    parser.add_argument("--limit", type=int, help="only the first documents of the corpus")
    parser.add_argument("--where", metavar="COLUMN=VALUE", help="only documents of which this column has this value")
    parser.add_argument("--ids", type=int, default=20, help="how many differing documents to name per filter")
    parser.add_argument("--folder", type=Path, default=Path(".fdf/parity"), help="where both sides write")
    asked = parser.parse_args()
    peer = PEERS[asked.peer]
    filters = {name: peer.filters[name] for name in asked.filters or peer.filters}
    shutil.rmtree(asked.folder, ignore_errors=True)
    asked.folder.mkdir(parents=True)
    os.environ["FDF_HOME"] = str(asked.folder / "home")
    names = write_corpus(asked.corpus, asked.folder, limit=asked.limit, where=asked.where)
    theirs = peer_decisions(asked.peer, list(filters), asked.folder)
    compared = {}
    for name, operators in filters.items():
        ours = fdf_decisions(operators, asked.folder, name)
        as_theirs = {n: (peer.names.get(reason, reason), text) for n, (reason, text) in ours.items()}
        compared[name] = Comparison.of(name, theirs, as_theirs)
    print_tables(compared, peer=asked.peer, names=names, ids=asked.ids)


# --- the corpus -------------------------------------------------------------------------------------------------------


def write_corpus(paths: list[Path], folder: Path, *, limit: int | None, where: str | None) -> list[str]:
    """Write the documents for both sides, numbered; return their ids in the corpus."""
    held = list(islice(text_rows(paths, where=where), limit))
    texts = [row["text"] for row in held]
    with (folder / "corpus.jsonl").open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts))
    table = pa.table({"n": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.large_string())})
    pq.write_table(table, folder / "corpus.parquet", row_group_size=1000)
    return [str(row["id"]) for row in held]


# --- the two sides ----------------------------------------------------------------------------------------------------


def peer_decisions(peer: str, filters: list[str], folder: Path) -> list[dict[str, str | None]]:
    """Run the peer's script in its environment; return what it wrote, in the corpus's order."""
    out = folder / "peer.jsonl"
    script = HERE / "peers" / f"{peer}_decisions.py"
    command = [python_of(peer), script, folder / "corpus.jsonl", "--out", out, "--filters", *filters]
    subprocess.run([str(part) for part in command], check=True)  # noqa: S603 (our own script)
    with out.open(encoding="utf-8", newline="\n") as held:
        print(f"peer: {next(held).strip()}", file=sys.stderr)
        return [json.loads(line) for line in held]


def fdf_decisions(operators: Operators, folder: Path, name: str) -> dict[int, tuple[str, str | None]]:
    """Run the operators over the corpus; return each document's decision, and the digest of its text if it is kept."""
    import fdf

    stage = folder / name
    chain = [
        {"id": f"{kind}.{n}", "kind": kind, "op": op, "params": {"field": "text"} | params}
        for n, (kind, op, params) in enumerate(operators)
    ]
    # Every row may fail: what is quarantined is a decision too.
    settings = {"min_errors": 1 << 40, "materialize": {"path": str(stage), "drops": "full"}}
    source = {"type": "parquet", "path": str(folder / "corpus.parquet")}
    recipe = {"name": "parity", "input": source, "stages": [{"name": "decide", "operators": chain} | settings]}
    fdf.run(recipe, runner="serial")
    decided: dict[int, tuple[str, str | None]] = {}
    for n, text in columns(stage / "data", "n", "text"):
        decided[n] = (KEEP, hashlib.sha256(text.encode()).hexdigest())
    for n, reason in columns(stage / "dropped", "n", "__fdf__/drop_reason"):
        decided[n] = (reason, None)
    for n, error in columns(stage / "quarantine", "n", "__fdf__/error"):
        decided[n] = (f"quarantined: {error}"[:60], None)
    return decided


def columns(folder: Path, *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield the values of these columns of the parquet files in a folder that may be absent."""
    files = sorted(folder.glob("part-*.parquet"))
    if files:
        table = ds.dataset(files).to_table(columns=list(names))
        yield from zip(*(table[name].to_pylist() for name in names), strict=True)


# --- the comparison ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The decisions of both sides by one filter, document by document."""

    pairs: list[tuple[str, str]]
    texts: list[bool]
    """For each document that both keep and both rewrite: whether the texts are equal."""

    @classmethod
    def of(cls, name: str, theirs: list[dict[str, str | None]], ours: dict[int, tuple[str, str | None]]) -> Comparison:
        """Put both sides beside each other."""
        pairs = [(str(row[name]), ours.get(n, ("missing", None))[0]) for n, row in enumerate(theirs)]
        texts = [
            row[f"{name}_text"] == ours[n][1]
            for n, (row, pair) in enumerate(zip(theirs, pairs, strict=True))
            if pair == (KEEP, KEEP) and f"{name}_text" in row
        ]
        return cls(pairs=pairs, texts=texts)

    def differing(self) -> list[int]:
        """Return the places of the documents on which the sides differ."""
        return [n for n, (theirs, ours) in enumerate(self.pairs) if theirs != ours]


def print_tables(compared: dict[str, Comparison], *, peer: str, names: list[str], ids: int) -> None:
    """Print how many documents are equal, then both sides' reasons, then which documents differ."""
    print(f"| filter | documents | equal | equal % | texts that both rewrite | equal |\n|{'---|' * 6}")
    for name, held in compared.items():
        equal = len(held.pairs) - len(held.differing())
        share = 100 * equal / max(len(held.pairs), 1)
        rewritten = f"{len(held.texts):,} | {sum(held.texts):,}" if held.texts else "- | -"
        print(f"| {name} | {len(held.pairs):,} | {equal:,} | {share:.3f} | {rewritten} |")
    print(f"\n| filter | reason | {peer} | FDF | both |\n|{'---|' * 5}")
    for name, held in compared.items():
        theirs, ours = Counter(pair[0] for pair in held.pairs), Counter(pair[1] for pair in held.pairs)
        both = Counter(pair[0] for pair in held.pairs if pair[0] == pair[1])
        for reason in sorted(theirs | ours, key=lambda reason: -(theirs[reason] + ours[reason])):
            print(f"| {name} | {reason} | {theirs[reason]:,} | {ours[reason]:,} | {both[reason]:,} |")
    for name, held in compared.items():
        for n in held.differing()[:ids]:
            print(f"{name}: {names[n]}: {peer} {held.pairs[n][0]}, FDF {held.pairs[n][1]}")


if __name__ == "__main__":
    main()
