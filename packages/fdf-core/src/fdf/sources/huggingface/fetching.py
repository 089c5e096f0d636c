"""Brings a file of the hub to this machine's cache, once for all workers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from fdf.errors import StageFailed, TransientError
from fdf.sources.base import InputFile
from fdf.storage.retry import retrying

_FILE = re.compile(r"hf://datasets/(?P<repository>[^@]+)@(?P<commit>[0-9a-f]{40})/(?P<path>.+)")


def fetched(file: InputFile) -> InputFile:
    """Return a file of the hub as its copy in the cache (`HF_HOME`), downloaded where it is not there yet.

    Workers that need the same file wait for the one that is at it: `hf_hub_download` holds a lock for each. What has
    the same content in another commit is not downloaded again.
    """
    match = _FILE.fullmatch(file.uri)
    if match is None:
        return file
    from huggingface_hub import constants, hf_hub_download

    def download() -> str:
        try:
            return str(
                hf_hub_download(
                    match["repository"],
                    match["path"],
                    repo_type="dataset",
                    revision=match["commit"],
                    library_name="fdf",
                    tqdm_class=_silent(),
                )
            )
        except RuntimeError as error:  # what hf_xet raises, whatever went wrong on the way
            raise TransientError(f"{file.uri} could not be downloaded: {error}") from error

    try:
        path = retrying(download, what=file.uri)
    except OSError as error:
        if error.errno is None or error.filename is None:
            raise
        message = f"{file.uri} cannot be stored in {constants.HF_HUB_CACHE}: {error.strerror}"
        step = "make room there, set HF_HOME to another folder, or read without copying: `streaming: true`"
        raise StageFailed(message, help=step) from error
    return dataclasses.replace(file, uri=str(Path(path)))


def _silent() -> Any:
    """Return a progress bar that shows nothing: FDF has one of its own."""
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

    return Silent
