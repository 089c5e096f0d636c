"""`fdf mix`: what a mixture will do, and what it did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from fdf.cli.lazy import LazyGroup
from fdf.cli.options import json_option, recipe_argument, recipe_path, set_option

if TYPE_CHECKING:
    from fdf.mixture.outlook import Outlook
    from fdf.plan.mixing import PlannedMixture
    from fdf.recipe.model import Recipe

mix = LazyGroup(
    name="mix",
    homes={"plan": "fdf.cli.mix:plan_mix", "show": "fdf.cli.mix:show_mix"},
    short_help="Foresee a mixture, or show what came of one.",
    help="Mixtures: what each source will give, and what it gave.",
)


@click.command("plan", short_help="Say when each source of a mixture runs out, before anything is read in bulk.")
@recipe_argument
@set_option
@json_option
@click.pass_context
def plan_mix(ctx: click.Context, *, recipe: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Say what the mixture of RECIPE will do: how much each source holds, where it runs out or reaches its cap, how
    often it is read, how shares change, and the bound. Reads footers and what was measured before; of other sources
    the first rows of a few files, and then says `about`. Exits with 2 where `total` cannot be reached.
    """
    from fdf.cli.failures import USAGE, tell
    from fdf.cli.screen import echo_json, show
    from fdf.errors import Problem
    from fdf.mixture.outlook import to_json
    from fdf.runner.run import load_recipe

    loaded = load_recipe(recipe_path(recipe), sets=sets)
    made, outlook = _foreseen(loaded)
    if as_json:
        settings = made.settings
        head = {"name": loaded.name, "unit": settings.unit, "total": settings.total, "plan_hash": made.plan_hash}
        sizes = {leaf.name: leaf.measure.describe() for leaf in made.leaves}
        echo_json({**head, **to_json(outlook), "sizes": sizes, "notes": list(made.notes)})
    else:
        show(*_plan_lines(loaded.name, made, outlook))
    if outlook.shortfall is None:
        return
    problem = Problem(
        code="FDF345",
        message=f"the mixture {'is' if outlook.exact else 'seems'} infeasible: {outlook.shortfall}",
        place=getattr(loaded.input, "place", None),
        help="lower `total`, allow more `epochs`, raise the cap, or let the others go on: `on_exhausted: renormalize`",
        warning=not outlook.exact,
    )
    tell([problem], as_json=as_json)
    if outlook.exact:
        ctx.exit(USAGE)


def _foreseen(loaded: Recipe) -> tuple[PlannedMixture, Outlook]:
    from fdf.errors import FdfError, PlanError, Problem
    from fdf.mixture.holdings import holdings_of
    from fdf.mixture.outlook import foresee
    from fdf.plan.mixing import plan_mixture
    from fdf.recipe.model import MixtureUse
    from fdf.storage.failures import given_up, told_as_failure

    if not isinstance(loaded.input, MixtureUse):
        message = f"the input of `{loaded.name}` is one source: there is no mixture to plan"
        raise PlanError(
            Problem(code="FDF347", message=message, place=loaded.input.place, help="write `input: { type: mixture }`")
        )
    what = f"the mixture of `{loaded.name}`"
    with given_up(what), told_as_failure(what, root=loaded.run_id):
        try:
            made = plan_mixture(loaded.input, seed=loaded.seed, pinned=None)
        except FdfError as error:
            raise error.placed(loaded.input.places, otherwise="datasets") from error
        holdings = holdings_of(made.leaves)
        sizes = {leaf.name: h.units or 0 for leaf, h in zip(made.leaves, holdings, strict=True)}
        return made, foresee(made.settings.law(sizes), holdings)


def _plan_lines(name: str, made: PlannedMixture, outlook: Outlook) -> Iterator[Any]:
    from fdf.cli.screen import columns, number

    settings = made.settings
    unit = settings.unit
    limit = f", total {settings.total:,}" if settings.total else ""
    yield f"{name}: {len(made.leaves)} sources by {unit}{limit}, on_exhausted: {settings.on_exhausted}"
    for note in made.notes:
        yield f"note: {note}"
    heads = ("source", "share", f"holds ({unit})", "rows", "known from", "ends at", "because of", "delivers", "epochs")
    table = columns(*heads, right=("share", f"holds ({unit})", "rows", "ends at", "delivers", "epochs"))
    for leaf in outlook.leaves:
        held = leaf.holding
        about = "" if held.exact else "about "
        table.add_row(
            leaf.name,
            f"{float(leaf.share):.2%}",
            "?" if held.units is None else about + number(held.units),
            "?" if held.rows is None else about + number(held.rows),
            held.how,
            "-" if leaf.ends_at is None else ("" if held.exact else "about ") + number(leaf.ends_at),
            leaf.cause or "-",
            "without end" if outlook.units is None else number(leaf.delivered),
            "-" if leaf.epochs is None else f"{leaf.epochs:.2f}",
        )
    yield table
    about = "" if outlook.exact else "about "
    for event in outlook.events:
        at = f"{about if event.cause == 'epochs' else ''}{event.at:,}"
        yield f"at {at} {unit}: {event.name or 'the mixture'} ends by {event.cause}, {event.then}"
    if outlook.units is None:
        yield "nothing ends this mixture: give it a `total`, or stop reading"
    if len(outlook.curve) > 1:
        yield from _curve(outlook, unit)
    yield f"bound: {_bound(made, outlook)}"


def _curve(outlook: Outlook, unit: str) -> Iterator[Any]:
    from fdf.cli.screen import columns, number

    names = [leaf.name for leaf in outlook.leaves]
    table = columns(f"from ({unit})", *names, right=(f"from ({unit})", *names))
    for at, shares in outlook.curve:
        table.add_row(number(at), *(f"{float(s):.2%}" for s in shares))
    yield "shares:"
    yield table


def _bound(made: PlannedMixture, outlook: Outlook) -> str:
    unit = made.settings.unit
    if unit == "rows" and made.settings.granularity == "document":
        return "at every prefix each source is less than one row from its target"
    largest = max(leaf.holding.largest for leaf in outlook.leaves)
    thing = "row group" if made.settings.granularity == "block" else "document"
    seen = f" (the largest seen so far: {largest:,} {unit})" if largest else ""
    return f"at every prefix each source is less than the largest {thing} from its target{seen}"


@click.command("show", short_help="Show what was planned, delivered and kept of each source.")
@click.argument("target", metavar="PATH|RUN_ID")
@json_option
def show_mix(*, target: str, as_json: bool) -> None:
    """Show the mixture of a run, or of a stage or output directory: rows and units of each source as planned, as
    delivered, and as left by filters at the end, epochs, events, and how far sources were from their targets when.
    """
    from fdf.cli.screen import echo_json, show
    from fdf.errors import PlanError, Problem
    from fdf.report.committed import find_stages
    from fdf.report.mixture import mixtures_of

    found = mixtures_of(find_stages(target))
    if not found:
        raise PlanError(
            Problem(
                code="FDF348",
                message=f"nothing that `{target}` committed was mixed",
                help="name a run whose `input` is a mixture, or one of its stage or output directories",
            )
        )
    if as_json:
        echo_json([one.to_json() for one in found])
        return
    for number, one in enumerate(found):
        show(*([""] if number else []), *_show_lines(one))


def _show_lines(one: Any) -> Iterator[Any]:
    from fdf.cli.screen import columns, number, percent

    unit = one.unit
    yield f"{one.stage}, by {unit}, plan {str(one.plan_hash)[:12]}  ({one.root})"
    heads = ("source", "asked", "planned", "delivered", "share", "rows", "epochs", "kept", "share kept", "rows kept")
    table = columns(*heads, right=heads[1:])
    units = sum(leaf.delivered_units or 0 for leaf in one.leaves)
    kept = sum(leaf.final_units for leaf in one.leaves)
    for leaf in one.leaves:
        table.add_row(
            leaf.name,
            "-" if leaf.asked is None else f"{leaf.asked:.2%}",
            number(leaf.planned_units),
            number(leaf.delivered_units),
            "-" if leaf.delivered_units is None else percent(leaf.delivered_units, units),
            number(leaf.delivered_rows),
            "-" if leaf.epochs is None else f"{leaf.epochs:.2f}",
            number(leaf.final_units),
            percent(leaf.final_units, kept),
            number(leaf.final_rows),
        )
    yield table
    if one.kept_in != one.stage:
        yield f"kept: what `{one.kept_in}` holds"
    if one.bound is not None:
        yield f"farthest from a target: {one.deviation:.2f} {unit}; the bound is {one.bound:,}"
    yield from one.sparklines()
    for event in one.events:
        yield f"at {event['at']:,} {unit}: {event['name'] or 'the mixture'} ends by {event['cause']}, {event['then']}"
