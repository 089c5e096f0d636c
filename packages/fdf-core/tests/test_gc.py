"""What garbage collection removes and what it never touches, after runs that were changed, killed and replaced."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

import fdf
from fdf.cli.main import main
from fdf.errors import StageFailed
from fdf.report.committed import find_stages
from fdf.report.verify import verify
from fdf.runner.garbage import claims_of_runs, find_home_garbage
from fdf.stage import manifest_file, receipt_folder
from fdf.stage.crashpoints import CRASH_POINTS
from fdf.stage.garbage import find_garbage, remove_garbage
from fdf.storage import open_store
from fdf.testing.s3 import s3_stand_in

HOUR = 3600
FOREIGN = ("notes.txt", "dropped/part-mine.parquet", "manifest.outputs-old.parquet")


@pytest.fixture
def recipe(tmp_path, op):
    """Give a function that writes a recipe of one stage and an output, by what may change about it."""

    def write(*, most: int = 3, mode: str = "incremental", keep: int = 0) -> dict[str, Any]:
        place = {"mode": mode, "path": str(tmp_path / "one"), "keep": keep}
        operators = [op("score", "Lengths", poison="bad"), op("filter", "Short", most=most)]
        return {
            "name": "grow",
            "input": {"type": "parquet", "name": "src", "path": f"{tmp_path}/in/*.parquet"},
            "stages": [{"name": "one", "materialize": place, "operators": operators}],
            "output": {"type": "parquet", "path": str(tmp_path / "out"), "shard_size": 1, "mode": mode},
        }

    return write


@pytest.fixture
def roots(tmp_path) -> list[Path]:
    return [tmp_path / "one", tmp_path / "out"]


@pytest.fixture
def three_files(words) -> None:
    for name in ("a", "b", "c"):
        words(name, [f"{name}{n}"[: n + 1] + "x" * (n % 7) for n in range(9)] + ["bad"])


def run(recipe: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    """Run to the end, and return the splits that were started."""
    started = []
    fdf.run(
        recipe,
        runner="serial",
        on_event=lambda e: started.append((e.stage, e.split)) if e.kind == "split_started" else None,
        **options,
    )
    return started


def files(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()} if root.exists() else set()


def aged(root: Path, hours: float) -> None:
    """Let everything below a root be so old."""
    then = time.time() - hours * HOUR
    for path in root.rglob("*"):
        os.utime(path, (then, then))


def unreferenced(root: Path, home: Path) -> set[str]:
    """Say what may go, from the JSON that lies there: the rule of docs/storage.md, written down a second time."""
    dead = {f for f in files(root) if f.startswith(".fdf-tmp/") and not f.endswith(".lock")}
    dead -= {f for f in dead if f.startswith(f".fdf-tmp/{os.getpid()}-")}
    meta = next((m for m in ("", "__fdf__/") if (root / m / "manifest.json").exists()), None)
    if meta is None:
        return dead
    manifest = json.loads((root / meta / "manifest.json").read_text())
    named = {f["path"] for part in ("outputs", "dropped", "quarantine") for f in manifest[part]}
    wanted = {manifest["generation"]}
    for record in map(json.loads, (p.read_text() for p in home.glob("runs/*/run.json"))):
        if record["status"] != "finished":
            for fingerprint in record["fingerprints"].values():
                wanted |= {f"{fingerprint[:32]}-0", f"{fingerprint[:32]}-{record['run_id']}.{record['generation']}"}
    for path in (root / meta / "_receipts").glob("*/*.json"):
        if path.parent.name not in wanted:
            dead.add(path.relative_to(root).as_posix())
            continue
        receipt = json.loads(path.read_text())
        named |= {f["path"] for part in ("outputs", "dropped", "quarantine") for f in receipt[part]}
    return dead | {f for f in files(root) if Path(f).name.count("-") == 2 and "part-" in f and f not in named}


def collect(*words: object) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["gc", "--json", *map(str, words)])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def plant(root: Path, chosen: random.Random) -> set[str]:
    """Leave what a killed run may leave, and what a person may; return the foreign ones."""
    meta = "__fdf__/" if (root / "__fdf__").exists() else ""
    for folder in ("data/" if not meta else "", f"{meta}dropped/", f"{meta}quarantine/"):
        path = root / f"{folder}part-{chosen.randbytes(6).hex()}-{chosen.randbytes(6).hex()}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"of nobody")
    foreign = {f"{meta}{name}" for name in FOREIGN}
    for name in foreign:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("a person's")
    return foreign


@pytest.mark.usefixtures("three_files")
@pytest.mark.parametrize("seed", range(4))
def test_after_any_history_exactly_the_unreferenced_files_go(recipe, roots, words, drive, seed):
    tmp_path, home = roots[0].parent, roots[0].parent / "fdf-home"
    chosen = random.Random(seed)
    current = recipe()
    run(current)
    foreign = {root: plant(root, chosen) for root in roots}
    steps = ["A", "B", "overwrite", "remove", "restore", "replace", "kill", "kill"]
    chosen.shuffle(steps)
    for step in steps:
        if step in ("A", "B", "overwrite"):
            mode = "overwrite" if step == "overwrite" else "incremental"
            current = recipe(most=6 if step == "B" else 3, mode=mode, keep=chosen.randint(0, 1))
            run(current)
        elif step == "remove":
            (tmp_path / "in" / "b.parquet").unlink()
            run(current)
        elif step == "restore":
            words("b", ["back", "b"])
            run(current)
        elif step == "replace":
            words("a", [f"new {seed}", "z", "bad"])
            run(current)
        else:
            current = recipe(most=chosen.randint(1, 9), mode=chosen.choice(["incremental", "overwrite"]))
            words("c", [f"c{chosen.random()}", "y"])
            point = f"{chosen.choice(CRASH_POINTS)}:{tmp_path}/once-{chosen.random()}"
            assert drive(current, crash_at=point).returncode == -signal.SIGKILL
        collect_and_check(roots, home, foreign)
    # What is left is all that is needed: a last recipe ends as it does in a place where nothing ever happened.
    current = recipe(most=4)
    run(current)
    collect_and_check(roots, home, foreign)
    assert run(current) == []
    ended = [checksums(root) for root in roots]
    for root in roots:
        root.rename(root.with_suffix(".first"))
    run(current, run_id="afresh")
    assert [checksums(root) for root in roots] == ended


def checksums(root: Path) -> dict[str, str]:
    """Return what the manifest says of its files; `verify` has just compared it with them."""
    manifest = find_stages(str(root))[0].manifest
    return {f["path"]: f["sha256"] for part in ("outputs", "dropped", "quarantine") for f in manifest[part]}


def collect_and_check(roots: list[Path], home: Path, foreign: dict[Path, set[str]]) -> None:
    before = {root: files(root) for root in roots}
    doomed = {root: unreferenced(root, home) for root in roots}
    shown = collect("--grace", 0)
    assert {root: files(root) for root in roots} == before, "without --delete nothing goes"
    done = collect("--grace", 0, "--delete")
    assert done["files"] == shown["files"]
    for root in roots:
        assert before[root] - files(root) == doomed[root]
        assert foreign[root] <= files(root)
        for stage in find_stages(str(root)):
            assert [m for m in verify(stage).mismatches if m.file not in foreign[root]] == []
    assert collect("--grace", 0)["files"] == 0


def test_an_unfinished_run_resumes_with_all_it_had(tmp_path, home, recipe, three_files, drive):
    run(recipe())
    changed = recipe(most=6)
    assert drive(changed, crash_at="manifest-ready").returncode == -signal.SIGKILL
    collect("--grace", 0, "--delete")
    started = run(changed)
    assert [stage for stage, _ in started] == ["output"] * 3, "the three splits of stage `one` had their receipts"


@pytest.mark.usefixtures("three_files")
def test_a_run_that_was_given_up_goes_with_its_record(home, recipe, roots, drive):
    run(recipe())
    kept = {f for f in files(roots[0]) if ".fdf-tmp" not in f}
    assert drive(recipe(most=6), crash_at="manifest-ready").returncode == -signal.SIGKILL
    (given_up,) = [p.parent for p in home.glob("runs/*/run.json") if json.loads(p.read_text())["status"] == "running"]
    assert "an unfinished run resumes" in str(collect("--grace", 0, "--delete")["places"])
    assert kept < files(roots[0])
    shutil.rmtree(given_up)
    collect("--grace", 0, "--delete")
    assert {f for f in files(roots[0]) if ".fdf-tmp" not in f} == kept


def garbage(root: Path | str, home: Path, *, grace: float = 0.0) -> tuple[set[str], str]:
    found = find_garbage(str(root), claims=claims_of_runs(home), grace=grace)
    return {f.path for f in found.leftovers}, " ".join(found.notes)


@pytest.fixture
def superseded(home, recipe, roots, three_files, drive) -> Iterator[Path]:
    """Give stage `one` with the receipts and files of a run whose successor was killed before it could clean up."""
    run(recipe())
    assert drive(recipe(most=6), crash_at="manifest-committed").returncode == -signal.SIGKILL
    shutil.rmtree(roots[0] / ".fdf-tmp")
    return roots[0]


def test_nothing_goes_within_the_grace(home, superseded):
    everything, _ = garbage(superseded, home)
    assert {f.split("/")[0] for f in everything} == {"_receipts", "data", "dropped"}
    found, notes = garbage(superseded, home, grace=HOUR)
    assert found == set()
    assert "added to them within the grace" in notes
    aged(superseded, 2)
    assert garbage(superseded, home, grace=HOUR)[0] == everything
    # What was replaced an hour ago may still be read.
    os.utime(superseded / "manifest.json")
    found, notes = garbage(superseded, home, grace=HOUR)
    assert found == set()
    assert "stay for now" in notes


def test_kept_files_of_the_dataset_before_go_when_their_time_is_over(home, recipe, roots, three_files, words):
    run(recipe(keep=1))
    before = files(roots[0])
    words("a", ["new"])
    run(recipe(keep=1))
    assert {f for f in before if f.startswith("data/")} < files(roots[0])
    aged(roots[0], 2)
    os.utime(roots[0] / "manifest.json")
    assert garbage(roots[0], home, grace=HOUR)[0] == set()
    aged(roots[0], 2)
    gone = {f.split("/")[0] for f in garbage(roots[0], home, grace=HOUR)[0]}
    assert gone == {"data", "dropped", "quarantine"}


def test_receipts_stay_where_their_run_is_recorded_elsewhere(home, superseded, tmp_path):
    found, notes = garbage(superseded, tmp_path / "another-home")
    assert found == set()
    assert "is not recorded here" in notes
    (home / "runs" / "torn").mkdir()
    (home / "runs" / "torn" / "run.json").write_text("{")
    found, notes = garbage(superseded, home)
    assert found == set()
    assert "record cannot be read" in notes


@pytest.mark.parametrize("damage", ["torn", "future", "partial", "lists"])
def test_nothing_goes_where_the_manifest_cannot_be_judged(home, superseded, damage):
    path = superseded / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(
        {
            "torn": path.read_text()[:-100],
            "future": json.dumps({**manifest, "format": "fdf/99"}),
            "partial": json.dumps({k: v for k, v in manifest.items() if k != "generation"}),
            "lists": json.dumps({**manifest, "lists": {"file": "manifest.outputs-0.parquet", "sha256": "0"}}),
        }[damage]
    )
    before = files(superseded)
    with pytest.raises((StageFailed, FileNotFoundError)):
        garbage(superseded, home)
    done = CliRunner().invoke(main, ["gc", "--delete", "--grace", "0", str(superseded)])
    assert done.exit_code == 1
    assert "manifest" in done.stderr
    assert "= help: " in done.stderr
    assert files(superseded) == before


def test_nothing_goes_where_a_run_commits_meanwhile(home, superseded, recipe):
    claims = claims_of_runs(home)
    found = find_garbage(str(superseded), claims=claims, grace=0)
    receipt = next(superseded.glob("_receipts/*/*.json"))
    receipt.with_name("0" * 32 + "-" + "1" * 16 + ".json").write_text("{}")
    before = files(superseded)
    assert not remove_garbage(found)
    found = find_garbage(str(superseded), claims=claims, grace=0)
    (superseded / "manifest.json").write_text((superseded / "manifest.json").read_text() + "\n")
    assert not remove_garbage(found)
    assert files(superseded) == before


@pytest.mark.usefixtures("three_files")
def test_files_that_only_an_index_names_stay(home, recipe, roots, monkeypatch, tmp_path):
    monkeypatch.setattr(receipt_folder, "MAX_SINGLE", 0)
    run(recipe())
    shutil.copytree(roots[0], tmp_path / "copy")
    (tmp_path / "in" / "b.parquet").unlink()
    run(recipe())
    # As if killed before it cleaned up: the manifest is the new one, everything else as it was.
    shutil.copytree(tmp_path / "copy", roots[0], dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
    assert garbage(roots[0], home)[0] == set()
    index = next(f for f in (tmp_path / "copy").glob("_receipts/*/index-*"))
    damaged = roots[0] / index.relative_to(tmp_path / "copy")
    damaged.write_bytes(damaged.read_bytes()[:50])
    found, notes = garbage(roots[0], home)
    assert found == set()
    assert "a receipt cannot be read" in notes
    damaged.unlink()
    assert {f.split("/")[0] for f in garbage(roots[0], home)[0]} == {"data", "dropped", "quarantine"}


def test_the_empty_shard_of_a_stage_that_keeps_nothing_stays(home, recipe, roots, words):
    words("a", ["too long", "also too long"])
    run(recipe())
    (shard,) = (roots[0] / "data").iterdir()
    aged(roots[0], 2)
    # No receipt names it: it belongs to no split.
    assert garbage(roots[0], home)[0] == set()
    words("b", ["ok"])
    run(recipe(keep=1))
    assert garbage(roots[0], home)[0] == {f"data/{shard.name}"}


def test_superseded_lists_go_and_the_current_one_stays(home, recipe, roots, three_files, monkeypatch):
    monkeypatch.setattr(manifest_file, "MAX_INLINE", 1)
    run(recipe())
    (current,) = roots[1].glob("__fdf__/manifest.outputs-*.parquet")
    shutil.copy(current, current.with_name("manifest.outputs-0123456789ab.parquet"))
    assert garbage(roots[1], home)[0] == {"__fdf__/manifest.outputs-0123456789ab.parquet"}


HOLD = """
import sys
from fdf.storage import open_store
(open_store(sys.argv[1]).scratch() / "half").write_text("of a shard")
print("held", flush=True)
sys.stdin.read()
"""


def test_scratch_goes_only_when_its_process_is_gone(home, superseded):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(superseded)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        found, notes = garbage(superseded, home)
        # Somebody is at work: a grace of nothing is not granted.
        assert found == set()
        assert "another process is at work" in notes
        holder.kill()
    found, _ = garbage(superseded, home)
    (scratch,) = [f for f in found if f.startswith(".fdf-tmp/")]
    assert not any(f.startswith(".fdf-tmp/") for f in garbage(superseded, home, grace=HOUR)[0])
    remove_garbage(find_garbage(str(superseded), claims=claims_of_runs(home), grace=0))
    assert not (superseded / scratch).exists()


def test_a_folder_without_a_manifest_keeps_everything_but_scratch(home, recipe, roots, three_files, drive):
    assert drive(recipe(), crash_at="manifest-ready").returncode == -signal.SIGKILL
    found, notes = garbage(roots[0], home)
    assert {f.split("/")[0] for f in found} == {".fdf-tmp"}
    assert "nothing is committed" in notes


def test_garbage_of_a_stage_on_s3_goes_too(home, recipe, three_files):
    with s3_stand_in("bucket"):
        there = recipe()
        there["stages"][0]["materialize"]["path"] = "s3://bucket/one"
        run(there)
        store = open_store("s3://bucket/one")
        whole = {e.path for e in store.list()}
        generation = next(p for p in whole if p.startswith("_receipts/")).split("/")[1]
        planted = {
            "data/part-0123456789ab-0123456789ab.parquet",
            f"_receipts/{'0' * 32}-0/{'0' * 32}-{'0' * 16}.json",
            ".fdf-probe-0123456789abcdef",
        }
        foreign = {"data/part-1.parquet", f"_receipts/{generation}/mine.json", "readme.txt"}
        for path in planted | foreign:
            store.put_if_absent(path, b"{}")
        assert garbage("s3://bucket/one", home, grace=HOUR)[0] == set()
        time.sleep(1.1)  # S3 tells times in whole seconds
        assert garbage("s3://bucket/one", home)[0] == planted
        collect("s3://bucket/one", "--grace", 0, "--delete")
        assert {e.path for e in store.list()} == whole | foreign
        assert run(there) == []


def test_tables_in_memory_stay_for_as_long_as_a_recorded_recipe_reads_them(home, tmp_path):
    pipeline = fdf.Pipeline("spooled").read(pa.table({"text": ["a", "b"]})).write("parquet", path=str(tmp_path / "out"))
    fdf.run(pipeline, runner="serial")
    fdf.Pipeline("never run").read(pa.table({"text": ["c"]}))
    spooled = {p.name for p in (home / "memory").iterdir()}
    assert len(spooled) == 2
    (unread,) = [f.path for f in find_home_garbage(home, grace=0)]
    assert find_home_garbage(home, grace=HOUR) == []
    assert pa.ipc.open_file(unread).read_all().to_pylist() == [{"text": "c"}]
    collect("--grace", 0, "--delete")
    assert {p.name for p in (home / "memory").iterdir()} == spooled - {unread.name}
    assert run(pipeline) == []
    shutil.rmtree(home / "runs")
    assert {f.path.name for f in find_home_garbage(home, grace=0)} == spooled - {unread.name}


def test_old_tracebacks_go(home):
    (home / "crashes").mkdir(parents=True)
    for name in ("crash-20260101-120000-77.txt", "crash-of-my-own.txt"):
        (home / "crashes" / name).write_text("Traceback")
    assert find_home_garbage(home, grace=HOUR) == []
    assert [f.path.name for f in find_home_garbage(home, grace=0)] == ["crash-20260101-120000-77.txt"]
