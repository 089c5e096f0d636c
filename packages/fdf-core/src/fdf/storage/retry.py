"""Tries again what may pass: server errors, time-outs, broken connections; each wait longer than the last.

This is the one place that decides how long. Calls are nested (a split reads files, a file is read in ranges), and
each may be tried again; where nothing has succeeded for `PATIENCE` seconds, all of them give up at once, so that their
attempts do not multiply while a store stays down. What the libraries below would try by themselves is switched off
(`fdf.storage.uri`).
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from fdf.errors import TransientError
from fdf.storage.uri import redacted

T = TypeVar("T")

ATTEMPTS = 8
FIRST_WAIT = 0.2
LONGEST_WAIT = 10.0
PATIENCE = 120.0
"""Seconds of failures, with no success among them, after which nothing is tried again."""

_CODES = {"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "Throttling", "ThrottlingException"}
_ERRNOS = {
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EAGAIN,
    errno.ESTALE,
}
_NAMES = {
    "ClientConnectorError",
    "ClientOSError",
    "ClientPayloadError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "EndpointConnectionError",
    "FSTimeoutError",
    "HTTPClientError",
    "IncompleteRead",
    "NetworkError",
    "ProxyConnectionError",
    "ReadTimeoutError",
    "RemoteProtocolError",
    "ResponseParserError",
    "ServerDisconnectedError",
    "ServerTimeoutError",
    "TimeoutException",
}

_SWITCHED_OFF = {"OfflineModeIsEnabled"}
"""A client that was told not to ask calls it an error of the connection, and waiting does not help."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, outermost first."""
    seen: set[int] = set()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        yield step
        step = step.__cause__ or step.__context__


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status that a store answered with, or None where the error holds none."""
    for step in causes(error):
        response = getattr(step, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return int(status) if status is not None else None
        for holder in (step, response):
            status = getattr(holder, "status", None) or getattr(holder, "status_code", None)
            if isinstance(status, int):
                return status
    return None


def http_code(error: BaseException) -> str:
    """Return the error code that an S3 store answered with, or an empty string."""
    for step in causes(error):
        response = getattr(step, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def is_transient(error: BaseException) -> bool:
    """Say whether trying again may help."""
    if any(type(step).__name__ in _SWITCHED_OFF for step in causes(error)):
        return False
    status = http_status(error)
    if status is not None:
        return status in (408, 425, 429) or (status >= 500 and status != 501) or http_code(error) in _CODES
    for step in causes(error):
        if isinstance(step, (TransientError, TimeoutError, ConnectionError)):
            return True
        if any(kind.__name__ in _NAMES for kind in type(step).__mro__):
            return True
        if isinstance(step, OSError) and step.errno in _ERRNOS:
            return True
    return False


class GivenUp(TransientError):
    """Nothing has succeeded for too long: whoever is asked to try again now should not."""


@dataclass
class _Trouble:
    """Since when this process has seen nothing but failures, and when the last one was."""

    since: float = 0.0
    last: float = 0.0

    def seconds(self) -> float:
        """Note a failure; return for how long there have been nothing but failures."""
        now = time.monotonic()
        if not self.since or now - self.last > PATIENCE:  # Between two failures so far apart all may have been well.
            self.since = now
        self.last = now
        return now - self.since

    def over(self) -> None:
        """Note a success."""
        self.since = 0.0


_TROUBLE = _Trouble()


def gave_up(error: BaseException) -> bool:
    """Say whether an error came of patience that ran out."""
    return any(isinstance(step, GivenUp) for step in causes(error))


def wait_or_give_up(error: Exception, *, what: str, attempt: int, attempts: int = ATTEMPTS) -> None:
    """Wait before the next attempt. Raises TransientError naming `what` after the last one, and GivenUp where nothing
    has succeeded for too long."""
    cause = redacted(f"{type(error).__name__}: {error}")
    if gave_up(error):
        raise GivenUp(redacted(str(error))) from error
    seconds = _TROUBLE.seconds()
    if seconds > PATIENCE:
        raise GivenUp(
            f"{redacted(what)} failed, and nothing has succeeded for {seconds:.0f} seconds, last with {cause}"
        ) from error
    if attempt == attempts:
        raise TransientError(f"{redacted(what)} failed {attempts} times, last with {cause}") from error
    pause(attempt)


def succeeded() -> None:
    """Note that a call to a store went well."""
    _TROUBLE.over()


def pause(attempt: int) -> None:
    """Wait after a failed attempt (counted from 1): longer each time, jittered so that workers do not come at once."""
    time.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter


def retrying(call: Callable[[], T], *, what: str, attempts: int = ATTEMPTS) -> T:
    """Return `call()`, tried again with growing, jittered waits while its error is transient.

    Raises TransientError naming `what` when the last attempt fails too, or GivenUp before that where nothing has
    succeeded for too long; any other error at once.
    """
    for attempt in range(1, attempts + 1):
        try:
            result = call()
        except Exception as error:
            if not is_transient(error):
                raise
            wait_or_give_up(error, what=what, attempt=attempt, attempts=attempts)
        else:
            succeeded()
            return result
    raise AssertionError("unreachable: the last attempt returns or raises")
