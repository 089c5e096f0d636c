"""What a failed command leaves on stderr, and its exit code. No traceback: that is for `FDF_DEBUG=1`."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from fdf.cli.screen import say
from fdf.errors import FdfError, MissingDependency, Problem

USAGE = 2
BUG = 70
INTERRUPTED = 130
ENVIRONMENT = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.ENOMEM}
)


def exit_code_of(error: Exception, *, as_json: bool) -> int:
    """Tell what went wrong and return the exit code."""
    problems, code = diagnose(error)
    tell(problems, as_json=as_json)
    return code


def tell(problems: Sequence[Problem], *, as_json: bool) -> None:
    """Write problems to stderr: as text with places and hints, or as one JSON list."""
    if as_json:
        click.echo(json.dumps([p.to_json() for p in problems], ensure_ascii=False), err=True)
        return
    for number, problem in enumerate(problems):
        head, _, rest = problem.render().partition("\n")
        kind, colon, message = head.partition(": ")
        mark = click.style(kind, fg="yellow" if problem.warning else "red", bold=True)
        say(("\n" if number else "") + mark + colon + message + ("\n" + rest if rest else ""))


def diagnose(error: Exception) -> tuple[Sequence[Problem], int]:
    """Return what to say of an exception, and the exit code."""
    if isinstance(error, FdfError):
        return error.problems, error.exit_code
    if isinstance(error, click.ClickException):
        return [_usage(error)], USAGE
    if isinstance(error, OSError) and error.errno in ENVIRONMENT:
        where = f"{error.filename}: " if error.filename else ""
        return [Problem(code="FDF511", message=f"{where}{error.strerror}")], MissingDependency.exit_code
    return [_bug(error)], BUG


def _usage(error: click.ClickException) -> Problem:
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return Problem(code="FDF001", message=error.format_message(), help=f"{ctx.command_path if ctx else 'fdf'} --help")


def _bug(error: Exception) -> Problem:
    message = f"{type(error).__name__}: {error}"
    saved = _save(error)
    return Problem(
        code="FDF900",
        message=f"FDF failed in a way that it should not: {message}",
        hint=f"the traceback is in {saved}" if saved else None,
        help="report it with that file, or see it here with FDF_DEBUG=1",
    )


def _save(error: Exception) -> Path | None:
    """Keep the traceback where runs keep their records, else among temporary files; None where neither can be."""
    text = "".join(traceback.format_exception(error))
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (Path(os.environ.get("FDF_HOME", ".fdf")) / "crashes", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            path.write_text(text)
        except OSError:
            continue
        return path
    return None
