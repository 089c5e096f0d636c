"""Hooks: every listener is heard, and none can harm the run."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

import fdf
from fdf import hooks


def listener(**functions):
    return SimpleNamespace(**{name: fdf.hookimpl(function) for name, function in functions.items()})


def test_one_that_raises_is_warned_of_by_name_and_the_others_still_run(caplog):
    heard = []
    loaded = hooks.Hooks()

    def fails(stage):
        raise KeyError(stage)

    loaded.register(listener(fdf_stage_started=lambda stage: heard.append(("first", stage))), name="one:first")
    loaded.register(listener(fdf_stage_started=fails), name="two:fails")
    loaded.register(listener(fdf_stage_started=lambda run_id: heard.append(("last", run_id))), name="three:last")
    with caplog.at_level(logging.WARNING, "fdf.hooks"):
        loaded.call("fdf_stage_started", run_id="r", stage="clean")
    assert heard == [("first", "clean"), ("last", "r")]
    assert [r.getMessage() for r in caplog.records] == [
        "plugin two:fails failed in fdf_stage_started: KeyError: 'clean'"
    ]


def test_answers_are_collected_and_nones_left_out():
    loaded = hooks.Hooks()
    loaded.register(listener(fdf_report_sections=lambda: {"title": "a", "html": ""}), name="a")
    loaded.register(listener(fdf_report_sections=lambda: None), name="b")
    assert loaded.call("fdf_report_sections", run_id="r", manifests=[]) == [{"title": "a", "html": ""}]


@pytest.mark.parametrize(
    "functions", [{"fdf_stage_started": lambda no_such_argument: None}, {"fdf_no_such_hook": lambda: None}]
)
def test_a_plugin_that_does_not_fit_the_hooks_is_left_out_with_a_warning(caplog, functions):
    loaded = hooks.Hooks()
    with caplog.at_level(logging.WARNING, "fdf.hooks"):
        loaded.register(listener(**functions), name="odd")
    assert loaded.names() == []
    assert "plugin odd is left out" in caplog.text


def test_an_interrupt_is_not_swallowed():
    def interrupted():
        raise KeyboardInterrupt

    loaded = hooks.Hooks()
    loaded.register(listener(fdf_run_finished=interrupted), name="i")
    with pytest.raises(KeyboardInterrupt):
        loaded.call("fdf_run_finished", run_id="r", exit_code=0)
