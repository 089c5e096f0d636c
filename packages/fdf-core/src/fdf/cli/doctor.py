"""`fdf doctor`: what works on this machine, and what does not."""

from __future__ import annotations

import click

from fdf.cli.options import json_option


@click.command(short_help="Look at Python, packages, plugins, places, S3 and GPUs.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Look at what runs need on this machine. Whether credentials are there is said, never what they are. Exits with 4
    where something does not work.
    """
    from fdf.cli.screen import columns, echo_json, show
    from fdf.errors import MissingDependency
    from fdf.report.health import examine

    found = list(examine())
    bad = [f for f in found if f.status == "problem"]
    if as_json:
        echo_json({"ok": not bad, "findings": [f.to_json() for f in found]})
    else:
        table = columns("", "what", "finding")
        for finding in found:
            table.add_row(finding.status, finding.what, finding.detail)
            if finding.help:
                table.add_row("", "", f"-> {finding.help}")
        show(table)
    ctx.exit(MissingDependency.exit_code if bad else 0)
