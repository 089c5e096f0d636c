"""Commands that plugins add through the hook `fdf_commands`; a plugin that fails costs its own commands only."""

from __future__ import annotations

import logging

import click

from fdf.registry import entries

log = logging.getLogger("fdf.cli")


def plugin_commands(*, taken: set[str]) -> dict[str, click.Command]:
    """Return what the installed plugins add. A name that FDF has itself is left to FDF, with a warning."""
    if not entries("fdf"):
        return {}
    from fdf.hooks import installed

    # A group of their own, so that no plugin can take a command away.
    stage = click.Group("fdf")
    installed().call("fdf_commands", cli=stage)
    for name in sorted(taken & set(stage.commands)):
        log.warning("a plugin adds the command `%s`, which fdf has itself; fdf's is used", name)
    return {name: command for name, command in stage.commands.items() if name not in taken}
