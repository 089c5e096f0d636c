"""Turns what a disk or a store refuses into an error that says where, why, and what to do before running again.

Nothing is half-done behind such an error: files are written aside, and only a receipt or a manifest makes them count.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from fdf.errors import Problem, StageFailed, TransientError
from fdf.storage.retry import causes, http_code, http_status
from fdf.storage.uri import redacted

CREDENTIALS_HELP = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, for an account that may {what} there"
)
HUB_HELP = "set HF_TOKEN to a token of an account that may read it, or check the name of the repository"
_NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError"})
_REFUSED = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})

_ADVICE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or have the quota raised",
    errno.EROFS: "make it writable, or choose another path",
    errno.EACCES: "get the right to write there, or choose another path",
    errno.EPERM: "get the right to write there, or choose another path",
    errno.EEXIST: "remove the file that stands where a folder is needed, or choose another path",
    errno.ENOTDIR: "remove the file that stands where a folder is needed, or choose another path",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "choose a shorter path",
}


def refusal(error: BaseException) -> str | None:
    """Return in words why a store lets nobody in with these credentials, or None where that is not the trouble."""
    if any(type(e).__name__ in _NO_CREDENTIALS for e in causes(error)):
        return "no credentials were found"
    if any(type(e).__name__ == "GatedRepoError" for e in causes(error)):
        return "it is gated: its owner lets only those read it who asked on its page"
    code = http_code(error)
    if isinstance(error, PermissionError) or http_status(error) in (401, 403) or code in _REFUSED:
        return f"the store refused ({code or 'denied'})"
    return None


@contextmanager
def told_as_failure(what: str, *, root: str) -> Iterator[None]:
    """Raise StageFailed for an error of the operating system, with its path and what to do about it.

    `what` begins the message; `root` stands for the path where the system names none.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # Nobody reads our standard output any more: no matter of files.
    except OSError as error:
        path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else root
        cause = redacted(error.strerror or str(error) or type(error).__name__)
        advice = _ADVICE.get(error.errno or 0, "see to the cause")
        step = f"{advice}, then run again: what was committed is safe"
        message = f"{what}: {redacted(path)}: {cause}"
        raise StageFailed(Problem(code="FDF442", message=message, help=step)) from error


@contextmanager
def given_up(what: str) -> Iterator[None]:
    """Raise StageFailed for a fault of a store that was tried again and did not pass. `what` begins the message."""
    try:
        yield
    except TransientError as error:
        message = f"{what}: {redacted(str(error))}"
        step = "run again when the cause is gone: what was committed is safe"
        raise StageFailed(Problem(code="FDF441", message=message, help=step)) from error
