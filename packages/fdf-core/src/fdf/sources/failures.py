"""Turns whatever goes wrong while a file is read into an error that names the file and says if a retry helps."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from fdf.errors import BadFile, FdfError, MissingDependency, TransientError
from fdf.sources.base import InputFile
from fdf.storage.failures import CREDENTIALS_HELP, HUB_HELP, refusal
from fdf.storage.retry import is_transient
from fdf.storage.uri import local_path, protocol_of, redacted

_UNREADABLE = (pa.ArrowException, OSError, EOFError, ValueError, zlib.error, tarfile.TarError)


def refused(uri: str, why: str) -> MissingDependency:
    """Return the error for an input that may not be read."""
    if local_path(uri) is not None:
        return MissingDependency(f"{uri} may not be read", help="check the permissions of the file and its folders")
    step = HUB_HELP if protocol_of(uri) == "hf" else CREDENTIALS_HELP.format(what="read")
    return MissingDependency(f"{redacted(uri)} may not be read: {why}", help=step)


@contextmanager
def reading(file: InputFile, *, as_format: str) -> Iterator[None]:
    """Raise BadFile for a file that is not what it should be, TransientError for a fault that may pass,
    MissingDependency where access is refused."""
    try:
        yield
    except (FdfError, TransientError, NotImplementedError):
        raise
    except Exception as error:
        why = refusal(error)
        if why is not None:
            raise refused(file.uri, why) from error
        if not isinstance(error, _UNREADABLE):
            raise
        cause = redacted(str(error).strip().split("\n", 1)[0] or type(error).__name__)[:300]
        name = redacted(file.uri)
        if is_transient(error):
            raise TransientError(f"{name} could not be read: {cause}") from error
        if isinstance(error, FileNotFoundError):
            raise BadFile(f"{name} is gone since it was listed", help="run again to list the input anew") from error
        raise BadFile(
            f"{name} cannot be read as {as_format}: {cause}",
            help="replace or remove the file, or pass it by with `on_bad_file: skip`",
        ) from error
