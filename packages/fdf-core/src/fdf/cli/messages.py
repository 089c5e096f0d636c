"""Sends what FDF's loggers and Python's warnings say to stderr, one line each, while a command runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

LOGGERS = ("fdf", "py.warnings")


class _Lines(logging.Handler):
    """Writes `warning: text` to whatever stderr is now: a live block on the terminal puts itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.name == "py.warnings":
            # `file:line: Category: message`, then the source line: the place means nothing to who runs a recipe.
            text = text.partition("\n")[0]
        click.echo(f"{record.levelname.lower()}: {text}", err=True)


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Show warnings and worse of FDF's loggers, and Python's warnings, until the block ends. May be nested."""
    if any(isinstance(h, _Lines) for h in logging.getLogger(LOGGERS[0]).handlers):
        yield
        return
    handler = _Lines(level=logging.WARNING)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
