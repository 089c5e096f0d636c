"""Turns whatever goes wrong while a file is read into an error that names the file and says if a retry helps."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from fdf.errors import BadFile, FdfError, MissingDependency, TransientError
from fdf.sources.base import InputFile
from fdf.storage.retry import http_status, is_transient
from fdf.storage.uri import redacted

_UNREADABLE = (pa.ArrowException, OSError, EOFError, ValueError, zlib.error, tarfile.TarError)


@contextmanager
def reading(file: InputFile, *, as_format: str) -> Iterator[None]:
    """Raise BadFile for a file that is not what it should be, TransientError for a fault that may pass,
    MissingDependency where access is refused."""
    try:
        yield
    except (FdfError, TransientError, NotImplementedError):
        raise
    except _UNREADABLE as error:
        cause = redacted(str(error).strip().split("\n", 1)[0] or type(error).__name__)[:300]
        name = redacted(file.uri)
        if is_transient(error):
            raise TransientError(f"{name} could not be read: {cause}") from error
        if isinstance(error, PermissionError) or http_status(error) in (401, 403):
            raise MissingDependency(
                f"{name} may not be read: {cause}",
                help="check the file's permissions, or the credentials in the environment",
            ) from error
        if isinstance(error, FileNotFoundError):
            raise BadFile(f"{name} is gone since it was listed", help="run again to list the input anew") from error
        raise BadFile(
            f"{name} cannot be read as {as_format}: {cause}",
            help="replace or remove the file, or pass it by with `on_bad_file: skip`",
        ) from error
