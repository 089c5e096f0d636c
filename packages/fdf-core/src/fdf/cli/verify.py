"""`fdf verify`: recomputes what manifests claim."""

from __future__ import annotations

import click

from fdf.cli.options import json_option

MISMATCH = 1


@click.command(short_help="Recompute checksums, sizes, row counts and ids.")
@click.argument("target", metavar="PATH|RUN_ID")
@json_option
@click.pass_context
def verify(ctx: click.Context, *, target: str, as_json: bool) -> None:
    """Read every file of a stage or output directory (local or s3://), or of all stages of a run, and compare size,
    sha256, rows and the manifest's id with what the manifest says. Exits with 1 where something differs.
    """
    from fdf.cli.screen import echo_json, plural, say, show, size
    from fdf.errors import StageFailed
    from fdf.report.committed import find_stages
    from fdf.report.verify import verify as verify_stage

    try:
        stages = find_stages(target)
    except StageFailed as error:
        # A manifest that cannot be read is a finding, not a run that failed.
        from fdf.cli.failures import tell

        tell(error.problems, as_json=as_json)
        ctx.exit(MISMATCH)
    results = [verify_stage(stage) for stage in stages]
    broken = [r for r in results if not r.ok]
    if as_json:
        echo_json({"ok": not broken, "stages": [r.to_json() for r in results]})
        ctx.exit(MISMATCH if broken else 0)
    for result in results:
        verdict = "ok" if result.ok else plural(len(result.mismatches), "finding")
        show(
            f"{result.stage}: {verdict}  {plural(result.files, 'file')}, {size(result.bytes)},"
            f" {result.rows:,} rows kept, id {result.id[:12]}  {result.root}"
        )
        for mismatch in result.mismatches:
            show(f"  {result.root.rstrip('/')}/{mismatch.file} {mismatch.problem}")
        if result.uncommitted:
            say(f"note: {len(result.uncommitted):,} files of an unfinished or superseded run are in no manifest yet")
    ctx.exit(MISMATCH if broken else 0)
