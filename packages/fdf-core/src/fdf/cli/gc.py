"""`fdf gc`: removes what killed, superseded and given-up runs left behind, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fdf.cli.options import json_option

if TYPE_CHECKING:
    from fdf.errors import Problem
    from fdf.runner.garbage import HomeLeftover
    from fdf.stage.garbage import StageGarbage

UNREADABLE = 1
CHANGED = "a run has committed something there meanwhile: nothing was removed; run it again"


@click.command(short_help="Remove what no manifest and no run needs any more.")
@click.argument("targets", metavar="[PATH|RUN_ID]...", nargs=-1)
@click.option("--delete", is_flag=True, help="Remove it; without this, only show what would go.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Leave what is younger; less only where no run is at work.",
)
@json_option
@click.pass_context
def gc(ctx: click.Context, *, targets: tuple[str, ...], delete: bool, grace: float, as_json: bool) -> None:
    """Find what nothing references in stage and output directories (local or s3://): those named, those of a run, or
    with no argument those of all recorded runs and $FDF_HOME itself. Exits with 1 where a manifest cannot be read;
    nothing is removed there.
    """
    from fdf.cli.failures import tell
    from fdf.cli.screen import echo_json
    from fdf.plan.compile import fdf_home
    from fdf.runner.garbage import claims_of_runs, find_home_garbage

    home, seconds = fdf_home(), grace * 3600
    roots = _roots(targets, home)
    claims = claims_of_runs(home)
    problems: list[Problem] = []
    places: list[dict[str, Any]] = []
    for root in roots:
        done = _judged(root, claims=claims, grace=seconds, delete=delete, problems=problems)
        if done is not None:
            places.append(done)
    if not targets:
        places.append(_home(home, find_home_garbage(home, grace=seconds), delete=delete))
    if as_json:
        files = [file for place in places for file in place["files"]]
        total = {"files": len(files), "bytes": sum(file["bytes"] for file in files)}
        echo_json({"deleted": delete, "grace_hours": grace, **total, "places": places})
    else:
        _show(places, delete=delete)
    if problems:
        tell(problems, as_json=as_json)
        ctx.exit(UNREADABLE)


def _roots(targets: Sequence[str], home: Path) -> list[str]:
    """Return the directories that were asked for. Raises PlanError for one that FDF never wrote to."""
    from fdf.report.committed import find_run
    from fdf.runner.garbage import roots_of, roots_of_runs, unique_roots
    from fdf.runner.record import load_record
    from fdf.storage.uri import local_path

    def asked() -> Iterator[str]:
        for target in targets:
            record = load_record(home / "runs" / target) if "/" not in target else None
            local = local_path(target)
            if record is not None:
                yield from roots_of(record)
            elif local is None or "/" in target or Path(local).exists():
                _check_place(target)
                yield target
            else:
                find_run(target)

    return unique_roots(asked()) if targets else roots_of_runs(home)


def _check_place(target: str) -> None:
    from fdf.errors import PlanError, Problem
    from fdf.plan.job import OUTPUT_LAYOUT, STAGE_LAYOUT
    from fdf.storage import open_store
    from fdf.storage.failures import given_up, told_as_failure

    with given_up(target), told_as_failure(target, root=target):
        store = open_store(target)
        for layout in (STAGE_LAYOUT, OUTPUT_LAYOUT):
            there = store.read_tagged(layout.manifest) is not None
            if there or next(iter(store.list(layout.receipts)), None) is not None:
                return
    message = f"{target} is no stage or output directory: it has neither a manifest nor receipts"
    raise PlanError(Problem(code="FDF352", message=message, help="name such a directory, or a run id (fdf runs list)"))


def _judged(root: str, *, claims: Any, grace: float, delete: bool, problems: list[Problem]) -> dict[str, Any] | None:
    from fdf.errors import StageFailed
    from fdf.stage.garbage import find_garbage, remove_garbage
    from fdf.storage.failures import given_up, told_as_failure

    try:
        with given_up(root), told_as_failure(root, root=root):
            garbage = find_garbage(root, claims=claims, grace=grace)
            gone = remove_garbage(garbage) if delete else True
    except StageFailed as error:
        problems += error.problems
        return None
    return _place(garbage) if gone else {**_place(garbage), "files": [], "notes": [CHANGED]}


def _place(garbage: StageGarbage) -> dict[str, Any]:
    files = [{"path": f.path, "what": f.what, "bytes": f.bytes} for f in garbage.leftovers]
    return {"root": garbage.root, "stage": garbage.stage, "files": files, "notes": list(garbage.notes)}


def _home(home: Path, leftovers: list[HomeLeftover], *, delete: bool) -> dict[str, Any]:
    files = [{"path": f.path.relative_to(home).as_posix(), "what": f.what, "bytes": f.bytes} for f in leftovers]
    for leftover in leftovers if delete else ():
        leftover.path.unlink(missing_ok=True)
    return {"root": str(home), "stage": None, "files": files, "notes": []}


def _show(places: list[dict[str, Any]], *, delete: bool) -> None:
    from fdf.cli.screen import columns, number, plural, say, show, size

    table = columns("place", "what", "files", "size", right=("files", "size"))
    for place in places:
        by_kind: dict[str, list[int]] = {}
        for file in place["files"]:
            by_kind.setdefault(file["what"], []).append(file["bytes"])
        for what, held in by_kind.items():
            table.add_row(place["root"], what, number(len(held)), size(sum(held)))
        for note in place["notes"]:
            say(f"note: {place['root']}: {note}")
    files = [file for place in places for file in place["files"]]
    if table.row_count:
        show(table)
    total = f"{plural(len(files), 'file')}, {size(sum(file['bytes'] for file in files))}"
    if not files:
        say(f"nothing to remove in {plural(len(places), 'place')}")
    elif delete:
        say(f"removed {total}")
    else:
        say(f"would remove {total}; nothing was removed: fdf gc --delete")
