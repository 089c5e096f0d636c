"""Tables and JSON as every command prints them: aligned on a terminal, and no colour where none belongs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

UNLIMITED = 10_000
"""Columns of a line that nobody's terminal breaks: what goes into a file or a pipe is never cut."""


def console(*, err: bool = False) -> Console:
    """Return a console on stdout (or stderr) as it is now."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    terminal = stream.isatty()
    return Console(
        file=stream,
        width=None if terminal else UNLIMITED,
        highlight=False,
        no_color=bool(os.environ.get("NO_COLOR")) or None,
        soft_wrap=not terminal,
        markup=False,
        emoji=False,
    )


def coloured() -> bool | None:
    """Say to click whether to colour: never under NO_COLOR, else where the stream is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def columns(*heads: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table with these heads, those in `right` aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", expand=False)
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left", overflow="fold", no_wrap=head in right)
    return table


def show(*things: Any, err: bool = False) -> None:
    """Print tables and lines, without the blanks that would fill a table's last column up."""
    screen = console(err=err)
    if screen.is_terminal:
        for thing in things:
            screen.print(thing)
        return
    with screen.capture() as captured:
        for thing in things:
            screen.print(thing)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), err=err)


def say(text: str = "") -> None:
    """Tell the person something: on stderr, out of the way of data."""
    click.echo(text, err=True, color=coloured())


def echo_json(value: Any) -> None:
    """Print a value as indented JSON on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def echo_json_line(value: Any) -> None:
    """Print a value as one line of JSON on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def number(value: int | None) -> str:
    """Return a count with thousands separators."""
    return "-" if value is None else f"{value:,}"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def percent(part: int, whole: int) -> str:
    """Return a share, or `-` of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def size(count: float) -> str:
    """Return bytes in decimal units, as storage is sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def clock(seconds: float) -> str:
    """Return a duration as h:mm:ss or m:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shortened(text: str, *, width: int) -> str:
    """Return one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: max(1, width - 1)] + "…"


def terminal_width(*, err: bool = False) -> int:
    """Return how wide a line may be that is shortened for reading: the terminal's width, else 100."""
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size((100, 24)).columns if stream.isatty() else 100


def listed(words: Iterable[str], *, empty: str = "-") -> str:
    """Join words by commas."""
    return ", ".join(words) or empty
