"""A hook plugin: it hears of every committed stage."""

import fdf

heard: list[str] = []


@fdf.hookimpl
def fdf_stage_committed(stage: str) -> None:
    """Remember the stage."""
    heard.append(stage)
