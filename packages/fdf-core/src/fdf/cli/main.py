"""`fdf`: finds the command, runs it, and turns whatever it raises into a message and an exit code.

Only click and the standard library are imported here; a command's module imports what it needs when it runs.
"""

from __future__ import annotations

import os

import click

from fdf import __version__
from fdf.cli.lazy import LazyGroup

COMMANDS = {
    "run": "fdf.cli.run:run",
    "plan": "fdf.cli.plan:plan",
    "validate": "fdf.cli.validate:validate",
    "preview": "fdf.cli.preview:preview",
    "mix": "fdf.cli.mix:mix",
    "ops": "fdf.cli.ops:ops",
    "pipelines": "fdf.cli.pipelines:pipelines",
    "runs": "fdf.cli.runs:runs",
    "trace": "fdf.cli.trace:trace",
    "verify": "fdf.cli.verify:verify",
    "gc": "fdf.cli.gc:gc",
    "doctor": "fdf.cli.doctor:doctor",
    "schema": "fdf.cli.schema:schema",
}


class Fdf(LazyGroup):
    """The whole command line: FDF's own commands, then those of plugins."""

    def __init__(self) -> None:
        super().__init__(
            homes=COMMANDS,
            name="fdf",
            help="Turn a data recipe (one YAML file) into a training-ready dataset.",
            epilog="Data goes to stdout, everything else to stderr; --json works on every command.",
            context_settings={"help_option_names": ["-h", "--help"]},
            params=[_version_option()],
        )
        self._plugins_asked = False

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Look a command up; plugins are asked only for what FDF itself does not have."""
        if cmd_name not in self.commands:
            self._ask_plugins()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name FDF's commands as declared, then the plugins'."""
        self._ask_plugins()
        return super().list_commands(ctx)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; leave with the exit code that its failure asks for, and no traceback."""
        from fdf.cli.failures import INTERRUPTED, exit_code_of
        from fdf.cli.messages import logging_to_stderr

        # Looked for as a word, so that a mistake among the options is told as JSON too.
        as_json = "--json" in ctx.args
        with logging_to_stderr():
            try:
                return super().invoke(ctx)
            except (click.exceptions.Exit, click.Abort, BrokenPipeError):
                raise
            except KeyboardInterrupt:
                ctx.exit(INTERRUPTED)
            except Exception as error:
                if os.environ.get("FDF_DEBUG") == "1" and not isinstance(error, click.ClickException):
                    raise
                ctx.exit(exit_code_of(error, as_json=as_json))

    def _ask_plugins(self) -> None:
        if self._plugins_asked:
            return
        self._plugins_asked = True
        from fdf.cli.messages import logging_to_stderr
        from fdf.cli.plugins import plugin_commands

        # `--help` asks before any command is invoked.
        with logging_to_stderr():
            self.commands.update(plugin_commands(taken=set(COMMANDS)))


def _version_option() -> click.Option:
    def show(ctx: click.Context, _: click.Parameter, asked: object) -> None:
        if asked and not ctx.resilient_parsing:
            click.echo(f"fdf {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=show, help="Show the version and exit."
    )


main = Fdf()
