"""The stand-in hub's HTTP: what the real one answers to those who read from it, on this machine.

Large files are redirected to a second server with a port of its own, as the real hub sends them to a CDN: their
metadata stands on the redirect, and the token must not follow it there.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from fdf.testing.hub.repository import Blob, Repository, file_entry

TOKEN = "hf_stand_in"  # noqa: S105 - the token that the stand-in takes, no secret
_TYPES = {"datasets": "dataset", "models": "model", "spaces": "space"}
_VERBS = ("revision", "tree", "paths-info", "refs", "commits")


@dataclass(frozen=True)
class Asked:
    """One request, as it was answered."""

    method: str
    path: str
    """With the query, unquoted."""
    range: str | None
    """The bytes that were asked for, such as `0-99`; None: all."""
    status: int
    """0 where the connection was cut instead."""


@dataclass
class Fault:
    """What goes wrong with the next requests that match."""

    matching: re.Pattern[str]
    left: int
    status: int = 503
    """0: cut the connection in the middle of the answer."""
    seconds: float = 0.0
    """Wait so long, then answer as usual (with `status` 200)."""


class Shared:
    """What the servers' threads share."""

    def __init__(self, *, page_size: int) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []
        self.page_size = page_size
        self.lock = threading.Lock()
        self.hub = self.cdn = ""

    def fault(self, method: str, path: str) -> Fault | None:
        """Return what goes wrong with this request, if anything."""
        with self.lock:
            for fault in self.faults:
                if fault.left > 0 and fault.matching.search(f"{method} {path}"):
                    fault.left -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    shared: Shared

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the base class gives it
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.shared.fault(self.command, unquote(self.path))
        self._cut = False
        if fault is not None and fault.seconds:
            time.sleep(fault.seconds)
        elif fault is not None and fault.status:
            self._error(fault.status, "", "the stand-in was told to fail")
            return
        elif fault is not None:
            self._cut = True
        with suppress(BrokenPipeError, ConnectionResetError):
            self._route(urlsplit(self.path))

    def _route(self, url: Any) -> None:
        raise NotImplementedError

    def _answer(self, status: int, body: bytes, headers: dict[str, str], *, length: int | None = None) -> None:
        wanted = (self.headers.get("Range") or "").removeprefix("bytes=") or None
        asked = Asked(self.command, unquote(self.path), wanted, 0 if self._cut else status)
        with self.shared.lock:
            self.shared.asked.append(asked)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self._cut:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            # Closed with a reset, as a router or a dying server does.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        named = {"X-Error-Code": code} if code else {}
        self._answer(status, body, {"Content-Type": "application/json", "X-Error-Message": message, **named})

    def _content(self, blob: Blob, headers: dict[str, str]) -> None:
        """Answer with the bytes of a file, or the range of them that is asked for."""
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if wanted is None:
            self._answer(200, b"" if self.command == "HEAD" else blob.read(), headers, length=blob.size)
            return
        first, last = wanted.groups()
        start = int(first) if first else max(0, blob.size - int(last))
        stop = min(blob.size, int(last) + 1) if first and last else blob.size
        if start >= blob.size:
            self._answer(416, b"", {"Content-Range": f"bytes */{blob.size}"})
            return
        part = blob.part(start, stop)
        self._answer(206, part, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{blob.size}"})


class CdnHandler(_Handler):
    """Gives large files out by their digest, to anyone who brings no token."""

    def _route(self, url: Any) -> None:
        if self.headers.get("Authorization"):
            self._error(400, "", "a token was sent to the CDN")
            return
        name = url.path.rsplit("/", 1)[-1]
        for repository in self.shared.repositories.values():
            for tree in list(repository.commits.values()):
                for blob in tree.values():
                    if blob.large and blob.sha256 == name:
                        self._content(blob, {"ETag": f'"{name}"'})
                        return
        self._error(403, "", "no such object")


class HubHandler(_Handler):
    """Answers as the hub: repositories, trees, and files by revision."""

    def _route(self, url: Any) -> None:
        parts = url.path.strip("/").split("/")
        if parts[0] == "api" and len(parts) > 2 and parts[1] in _TYPES:
            self._api(_TYPES[parts[1]], parts[2:], parse_qs(url.query))
        elif "resolve" in parts:
            kind = _TYPES.get(parts[0], "model")
            at = parts.index("resolve")
            name = "/".join(parts[1 if parts[0] in _TYPES else 0 : at])
            self._resolve(kind, name, unquote(parts[at + 1]), unquote("/".join(parts[at + 2 :])))
        else:
            self._error(404, "", "not found")

    def _repository(self, kind: str, name: str) -> Repository | None:
        """Return a repository that the caller may see; else answer as the hub does."""
        found = self.shared.repositories.get((kind, name))
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if found is None or (found.private and not known):
            # Strangers are not told whether it exists.
            status, message = (404, "Repository not found") if known else (401, "Invalid username or password.")
            self._error(status, "RepoNotFound", message)
            return None
        return found

    def _commit(self, repository: Repository, revision: str) -> str | None:
        sha = repository.sha_of(revision)
        if sha is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def _api(self, kind: str, parts: list[str], query: dict[str, list[str]]) -> None:
        at = next((i for i, part in enumerate(parts) if i and part in _VERBS), len(parts))
        repository = self._repository(kind, "/".join(parts[:at]))
        if repository is None:
            return
        verb, rest = (parts[at], parts[at + 1 :]) if at < len(parts) else ("revision", [])
        if verb == "refs":
            self._refs(repository)
            return
        sha = self._commit(repository, unquote(rest[0]) if rest else "main")
        if sha is None:
            return
        if verb == "revision":
            self._info(repository, sha, blobs="blobs" in query)
        elif verb == "tree":
            self._tree(repository, sha, unquote("/".join(rest[1:])), query)
        elif verb == "paths-info":
            self._paths(repository, sha)
        else:
            commit = {"id": sha, "title": "commit", "message": "", "date": "2026-01-01T00:00:00.000Z", "authors": []}
            self._json([commit])

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _refs(self, repository: Repository) -> None:
        def told(named: dict[str, str], where: str) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{where}/{n}", "targetCommit": sha} for n, sha in named.items()]

        self._json({"branches": told(repository.branches, "heads"), "tags": told(repository.tags, "tags"),
                    "converts": []})  # fmt: skip

    def _info(self, repository: Repository, sha: str, *, blobs: bool) -> None:
        files = []
        for path, blob in sorted(repository.commits[sha].items()):
            entry = file_entry(path, blob)
            more = {"size": blob.size, "blobId": blob.oid, **({"lfs": entry["lfs"]} if blob.large else {})}
            if blobs and blob.large:
                more["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
            files.append({"rfilename": path, **(more if blobs else {})})
        self._json(
            {
                "_id": "0",
                "id": repository.id,
                "sha": sha,
                "private": repository.private,
                "gated": "auto" if repository.gated else False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "lastModified": "2026-01-01T00:00:00.000Z",
                "createdAt": "2026-01-01T00:00:00.000Z",
                "siblings": files,
            }
        )

    def _tree(self, repository: Repository, sha: str, below: str, query: dict[str, list[str]]) -> None:
        recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries = repository.entries(sha, below, recursive=recursive)
        if entries is None:
            self._error(404, "EntryNotFound", f"{below} does not exist on {sha}")
            return
        start = int(query.get("cursor", ["0"])[0])
        page = entries[start : start + self.shared.page_size]
        headers = {}
        if start + len(page) < len(entries):
            route = self.path.split("?")[0]
            asked = f"recursive={recursive}&cursor={start + len(page)}"
            headers["Link"] = f'<{self.shared.hub}{route}?{asked}>; rel="next"'
        self._json(page, headers)

    def _paths(self, repository: Repository, sha: str) -> None:
        sent = self.headers.get("Content-Type", "")
        asked = json.loads(self._body) if "json" in sent else parse_qs(self._body.decode())
        found = []
        for path in asked.get("paths", []):
            blob = repository.commits[sha].get(path)
            if blob is not None:
                found.append(file_entry(path, blob))
            elif repository.entries(sha, path, recursive=False):
                found.append({"type": "directory", "oid": sha, "size": 0, "path": path})
        self._json(found)

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = self._repository(kind, name)
        if repository is None:
            return
        if repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(401, "GatedRepo", f"Access to {kind} {name} is restricted and you are not in the list.")
            return
        sha = self._commit(repository, revision)
        if sha is None:
            return
        blob = repository.commits[sha].get(path)
        if blob is None:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        told = {"X-Repo-Commit": sha, "ETag": f'"{blob.etag}"'}
        if not blob.large:
            self._content(blob, told)
            return
        linked = {"X-Linked-Size": str(blob.size), "X-Linked-ETag": f'"{blob.sha256}"'}
        where = f"{self.shared.cdn}/objects/{blob.sha256}?for={quote(path, safe='')}"
        self._answer(302, b"", {**told, **linked, "Location": where})


class Serving:
    """A server in threads of its own, until it is closed."""

    def __init__(self, handler: type[_Handler], shared: Shared) -> None:
        served = type("Handler", (handler,), {"shared": shared})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), served)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering; the port is free again."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
