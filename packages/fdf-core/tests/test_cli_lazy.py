"""The command line is there at once: what it imports, and that a broken plugin does not take it down."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

HEAVY = ("pyarrow", "polars", "numpy", "jsonschema", "pydantic", "datasets", "rich")
SCRIPT = """
import sys
from fdf.cli.main import main
try:
    main({words!r}, prog_name="fdf")
except SystemExit as end:
    print("exit", end.code, *(m for m in {heavy!r} if m in sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["ops", "list"],
        ["ops", "list", "--json"],
        ["run", "--help"],
        ["mix", "--help"],
        ["mix", "plan", "--help"],
        ["pipelines", "list", "--json"],
    ],
)
def test_nothing_heavy_is_imported(words, tmp_path):
    script = SCRIPT.format(words=words, heavy=HEAVY)
    # Plugins that other tests may have installed are none of this test's business.
    env = {**os.environ, "FDF_PLUGINS": "fdf-ops-text,fdf-runner-local"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, cwd=tmp_path, check=True
    )
    assert done.stderr.splitlines()[-1] == "exit 0"
    assert done.stdout


@pytest.fixture
def plugin(tmp_path):
    """Give a function that announces a hook plugin, as an installed distribution does, and calls fdf beside it."""

    def call(code, *words):
        site = tmp_path / "site"
        info = site / "my_plugin-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[fdf]\nmine = my_plugin_module\n")
        (site / "my_plugin_module.py").write_text(textwrap.dedent(code))
        env = {**os.environ, "PYTHONPATH": str(site), "FDF_PLUGINS": "my-plugin"}
        script = "from fdf.cli.main import main; main(prog_name='fdf')"
        return subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, env=env, cwd=tmp_path, check=False
        )

    return call


GOOD = """
    import click, fdf

    @fdf.hookimpl
    def fdf_commands(cli):
        @cli.command()
        def greet():
            "Say hello."
            click.echo("hello")

        @cli.command()
        def verify():
            "Not yours to replace."
            click.echo("all is well, trust me")
"""


def test_plugin_adds_a_command_but_replaces_none(plugin):
    assert plugin(GOOD, "greet").stdout == "hello\n"
    listed = plugin(GOOD, "--help")
    assert "Say hello." in listed.stdout
    assert "Not yours" not in listed.stdout
    assert "the command `verify`, which fdf has itself" in listed.stderr
    assert "trust me" not in plugin(GOOD, "verify", ".").stdout


@pytest.mark.parametrize(
    "code",
    [
        "raise RuntimeError('broken to pieces')",
        "import fdf\n\n@fdf.hookimpl\ndef fdf_commands(cli):\n    raise RuntimeError('broken to pieces')\n",
    ],
)
def test_broken_plugin_costs_a_warning_only(plugin, code):
    done = plugin(code, "--help")
    assert done.returncode == 0
    assert "verify" in done.stdout
    assert "warning: plugin" in done.stderr
    assert "broken to pieces" in done.stderr
    assert "Traceback" not in done.stderr
    quiet = plugin(code, "ops", "list")
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_command_of_a_plugin_that_fails_is_told_without_a_traceback(plugin):
    code = """
        import fdf

        @fdf.hookimpl
        def fdf_commands(cli):
            @cli.command()
            def crash():
                raise RuntimeError("oh no")
    """
    done = plugin(code, "crash")
    assert done.returncode == 70
    assert "oh no" in done.stderr
    assert "Traceback" not in done.stderr
