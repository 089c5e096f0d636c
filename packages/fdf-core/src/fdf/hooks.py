"""Hooks: what a plugin may listen to, and how each listener is kept from harming the run.

A plugin is a module (or object) announced under the entry-point group `fdf`, with functions marked `@fdf.hookimpl`:

    import fdf

    @fdf.hookimpl
    def fdf_stage_committed(run_id, stage, manifest):
        print(stage, manifest["counts"]["rows_out"])

A function takes those of the arguments below that it names. One that raises is logged as a warning that names its
plugin; the others still run and so does the run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pluggy

from fdf.errors import MissingDependency
from fdf.registry import entries, load_entry

if TYPE_CHECKING:
    import click

hookspec = pluggy.HookspecMarker("fdf")
hookimpl = pluggy.HookimplMarker("fdf")

log = logging.getLogger("fdf.hooks")


class Specification:
    """Every hook, with the arguments that it passes."""

    @hookspec
    def fdf_run_started(self, run_id: str, recipe: Any) -> None:
        """A run starts: its id and the validated `fdf.recipe.Recipe`."""

    @hookspec
    def fdf_stage_started(self, run_id: str, stage: str) -> None:
        """A stage starts; everything before it is committed."""

    @hookspec
    def fdf_shard_committed(self, run_id: str, stage: str, receipt: Mapping[str, Any]) -> None:
        """A shard's receipt is in place. Called in the driver, once per shard."""

    @hookspec
    def fdf_stage_committed(self, run_id: str, stage: str, manifest: Mapping[str, Any]) -> None:
        """A stage's manifest is in place."""

    @hookspec
    def fdf_run_finished(self, run_id: str, exit_code: int) -> None:
        """A run ended, well or not; `exit_code` is what the command line returns."""

    @hookspec
    def fdf_report_sections(self, run_id: str, manifests: Sequence[Mapping[str, Any]]) -> Any:
        """Return a section, or several, for the report: mappings with `title` and `html`."""

    @hookspec
    def fdf_commands(self, cli: click.Group) -> None:
        """Add commands to `fdf`: `cli.add_command(...)`."""


class Hooks:
    """The plugins of one process."""

    def __init__(self) -> None:
        # One manager each, because pluggy stops at the first implementation that raises.
        self._plugins: dict[str, pluggy.PluginManager] = {}

    def register(self, plugin: object, *, name: str) -> None:
        """Add a plugin. One whose functions do not match the hooks is logged as a warning and left out."""
        manager = pluggy.PluginManager("fdf")
        manager.add_hookspecs(Specification)
        try:
            manager.register(plugin, name=name)
            manager.check_pending()
        except Exception as error:  # noqa: BLE001 - a plugin's mistake must not stop a run
            log.warning("plugin %s is left out: %s", name, error)
            return
        self._plugins[name] = manager

    def names(self) -> list[str]:
        """List the registered plugins."""
        return sorted(self._plugins)

    def call(self, hook: str, /, **arguments: Any) -> list[Any]:
        """Call one hook in every plugin, in the order of their names, and return what they answered, Nones left out.

        An implementation that raises is logged as a warning that names its plugin; the others still run.
        """
        answers: list[Any] = []
        for name in self.names():
            implementation = getattr(self._plugins[name].hook, hook)
            try:
                answers += implementation(**arguments)
            except Exception as error:
                log.warning("plugin %s failed in %s: %s: %s", name, hook, type(error).__name__, error)
                log.debug("plugin %s failed in %s", name, hook, exc_info=True)
        return answers


@lru_cache(maxsize=1)
def installed() -> Hooks:
    """Return the hooks of every plugin announced under the group `fdf`; a broken one is logged and left out."""
    hooks = Hooks()
    for entry in entries("fdf"):
        try:
            plugin = load_entry(entry)
        except MissingDependency as error:
            log.warning("plugin %s is left out: %s", entry.qualified, error.problems[0].message)
            continue
        hooks.register(plugin, name=entry.qualified)
    return hooks
