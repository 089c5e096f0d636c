"""A proxy that makes an HTTP store misbehave as real ones do: server errors, lost answers, broken connections.

Which request is struck, and how, depends on the seed and the request alone, not on when it comes, so that a test that
fails can be repeated.
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["500", "503", "reset", "cut", "lost", "late"]
"""500 and 503: refused with S3's own words, and not done. reset: the connection breaks, and nothing is done. cut: a GET
is answered by half. lost: it is done, and the connection breaks before the answer. late: it is done, and the answer
does not come for `hold` seconds."""

FAULTS: tuple[Fault, ...] = ("500", "503", "reset", "cut", "lost")
_CODES = {"500": "InternalError", "503": "SlowDown"}
_OF_ONE_CONNECTION = frozenset({"connection", "expect", "keep-alive", "transfer-encoding"})


@dataclass
class FaultyProxy:
    """A proxy at `address`. Its settings may be changed while it runs; `struck` counts the faults so far."""

    upstream: str
    seed: int
    rate: float
    """How likely each try of a request is to be struck."""
    faults: tuple[Fault, ...]
    methods: frozenset[str]
    where: str
    """What the path of a request must hold to be struck."""
    strikes: int
    """How many tries of one request may be struck; the next one passes."""
    hold: float
    address: str = ""
    struck: Counter[str] = field(default_factory=Counter)
    _tries: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, method: str, path: str) -> Fault | None:
        """Return what befalls this try of a request."""
        with self._lock:
            number = self._tries[method, path]
            self._tries[method, path] += 1
            if method not in self.methods or self.where not in path or number >= self.strikes:
                return None
            dice = random.Random(f"{self.seed} {method} {path} {number}")  # noqa: S311 (a test's dice)
            if dice.random() >= self.rate:
                return None
            fault = dice.choice(self.faults)
            if fault == "cut" and method != "GET":
                fault = "reset"
            self.struck[fault] += 1
            return fault


@contextmanager
def faulty_proxy(
    upstream: str,
    *,
    seed: int = 0,
    rate: float = 0.2,
    faults: tuple[Fault, ...] = FAULTS,
    methods: frozenset[str] = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"}),
    where: str = "",
    strikes: int = 2,
    hold: float = 2.0,
) -> Iterator[FaultyProxy]:
    """Run a proxy in front of the server at `upstream`, and yield it."""
    proxy = FaultyProxy(
        upstream=upstream,
        seed=seed,
        rate=rate,
        faults=faults,
        methods=methods,
        where=where,
        strikes=strikes,
        hold=hold,
    )

    class Handler(_Handler):
        settings = proxy

    server = _Server(("127.0.0.1", 0), Handler)
    proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections break here all the time: nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    settings: FaultyProxy

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class calls it so)
        """Say nothing."""

    def _pass_on(self) -> None:
        body = self._body()
        fault = self.settings.next_fault(self.command, self.path)
        if fault in ("500", "503"):
            self._refuse(fault)
        elif fault == "reset":
            self._break()
        else:
            answer = self._ask(body)
            if fault == "late":
                time.sleep(self.settings.hold)
            if fault in ("lost", "late"):
                self._break()
            else:
                self._answer(*answer, cut=fault == "cut")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 (the base class looks for these names)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        to = urlsplit(self.settings.upstream)
        connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OF_ONE_CONNECTION | {"content-length"}:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        told = [h for h in headers if h[0].lower() not in _OF_ONE_CONNECTION]
        if not any(name.lower() == "content-length" for name, _ in told):
            told.append(("Content-Length", str(len(body))))
        for name, value in told:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._break()

    def _refuse(self, status: str) -> None:
        body = f"<Error><Code>{_CODES[status]}</Code><Message>this is a test of patience</Message></Error>".encode()
        body = b"" if self.command == "HEAD" else b'<?xml version="1.0" encoding="UTF-8"?>' + body
        self._answer(int(status), [("Content-Type", "application/xml")], body)

    def _break(self) -> None:
        """Close the connection with a reset, as a machine does that goes down."""
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
