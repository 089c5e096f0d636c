"""`fdf ops`: the operators that are installed. Listing them imports none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fdf.cli.lazy import LazyGroup
from fdf.cli.options import json_option

KINDS = ("score", "evaluator", "filter", "refiner", "generator")

ops = LazyGroup(
    name="ops",
    homes={
        "list": "fdf.cli.ops:list_operators",
        "show": "fdf.cli.ops:show_operator",
        "index": "fdf.cli.ops:index_operators",
        "pages": "fdf.cli.ops:write_pages",
    },
    short_help="List operators, show one, or write a package's index or reference pages.",
    help="The operators that the installed packages announce.",
)


@click.command("list", short_help="List the installed operators.")
@click.option("--kind", type=click.Choice(KINDS), help="Only operators of this kind.")
@click.option("--broken", is_flag=True, help="Instead: what is announced but cannot be imported. Imports everything.")
@json_option
def list_operators(*, kind: str | None, broken: bool, as_json: bool) -> None:
    """List the operators that installed packages announce, without importing any of them."""
    from dataclasses import asdict

    from fdf.cli.screen import echo_json, say
    from fdf.registry import operators

    if broken:
        _list_broken(as_json=as_json)
        return
    found = [o for o in operators() if kind is None or o.summary.kind == kind]
    if as_json:
        echo_json([{"op": o.op, **asdict(o)} for o in found])
        return
    width = max((len(o.op) for o in found), default=0)
    for listing in found:
        # Plain lines rather than a rich table: this list must be there at once.
        summary = listing.summary
        said = summary.summary or "(its package has no index: fdf ops show tells more)"
        click.echo(f"{listing.op:<{width}}  {summary.kind:<9}  {summary.modality:<6}  {said}  [{listing.distribution}]")
    if not found:
        say("no installed package announces such an operator")


def _list_broken(*, as_json: bool) -> None:
    from fdf.cli.screen import echo_json, say, show
    from fdf.registry import broken

    found = broken()
    if as_json:
        echo_json(
            [
                {
                    "group": b.entry.group,
                    "name": b.entry.name,
                    "distribution": b.entry.distribution,
                    "problem": b.problem.to_json(),
                }
                for b in found
            ]
        )
        return
    for item in found:
        show(item.problem.message, f"  {item.problem.help}")
    if not found:
        say("everything that is announced can be imported")


@click.command("show", short_help="Show an operator's parameters, columns and reasons.")
@click.argument("name")
@json_option
def show_operator(*, name: str, as_json: bool) -> None:
    """Show what the operator NAME does: its documentation, parameters with defaults, and reasons."""
    from fdf.cli.screen import columns, echo_json, listed, show
    from fdf.recipe import operator_schema
    from fdf.reference import in_words
    from fdf.registry import find, load_entry

    entry = find("fdf.operators", name)
    declared = load_entry(entry)
    schema = operator_schema(declared)
    described = {
        "name": entry.name,
        "kind": declared.kind,
        "distribution": entry.distribution,
        "distribution_version": entry.version,
        "version": declared.version,
        "exactness": declared.exactness,
        "modality": declared.modality,
        "reasons": list(getattr(declared, "reasons", ())),
        "doc": _doc(declared),
        "params": schema,
    }
    if as_json:
        echo_json(described)
        return
    show(f"{entry.name}  {declared.kind} of {entry.distribution} {entry.version}", "", described["doc"], "")
    show(f"version {declared.version}, {declared.exactness}, modality {declared.modality}")
    if described["reasons"]:
        show(f"drops for: {listed(described['reasons'])}")
    properties: dict[str, Any] = schema.get("properties", {})
    if properties:
        table = columns("parameter", "type", "default", "what it does")
        for parameter, said in properties.items():
            default = "required" if parameter in schema.get("required", []) else _json(said.get("default"))
            table.add_row(parameter, in_words(said), default, str(said.get("description", "")))
        show("", table)


def _doc(declared: Any) -> str:
    import inspect

    return inspect.getdoc(declared) or ""


def _json(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


@click.command("index", short_help="Write a package's fdf-operators.json.")
@click.argument("distribution")
@json_option
def index_operators(*, distribution: str, as_json: bool) -> None:
    """Import the operators of an installed DISTRIBUTION and write fdf-operators.json beside its package, so that lists
    can show kind, modality and summary without importing it. For authors of operator packages.
    """
    from fdf.cli.screen import echo_json, show
    from fdf.registry import write_index

    written = write_index(distribution)
    if as_json:
        echo_json([str(path) for path in written])
        return
    show(*(f"wrote {path}" for path in written))


@click.command("pages", short_help="Write the reference pages of packages' operators.")
@click.argument("distributions", nargs=-1, metavar="[DISTRIBUTION]...")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder of the pages.")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 where a page is missing, stale or left over.")
@json_option
def write_pages(*, distributions: tuple[str, ...], out: Path, check: bool, as_json: bool) -> None:
    """Import the operators of each installed DISTRIBUTION (by default, of all) and write one Markdown page per operator
    and an index into a folder. Pages of operators that are gone are removed; other files stay.
    """
    from fdf.cli.screen import echo_json, say
    from fdf.reference import compare, pages, write

    wanted = pages(distributions)
    differences = compare(out, wanted) if check else write(out, wanted)
    if as_json:
        echo_json([{"path": str(d.path), "state": d.state} for d in differences])
    else:
        for difference in differences:
            done = difference.state if check else "removed" if difference.state == "left over" else "wrote"
            click.echo(f"{done} {difference.path}")
        if not differences:
            say(f"all {len(wanted)} pages are as they should be")
    if check and differences:
        raise SystemExit(1)
