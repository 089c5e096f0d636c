"""The Hugging Face hub as a file system of files that never change: paths name a commit.

`huggingface_hub`'s own file system asks for the repository, lists a file's folder before it opens the file, and tries
again by itself. Workers open one file of a folder that may hold a hundred thousand, at a commit that the planner has
found; and trying again is for `fdf.storage.retry` alone. Importing this module needs `huggingface_hub`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import HfFileSystem, constants, hf_hub_url
from huggingface_hub.hf_file_system import HfFileSystemFile
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from fdf.storage.retry import http_status

_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_get(url: str, *, headers: dict[str, str] | None = None, params: dict[str, Any] | None = None) -> Any:
    """Return the hub's answer to one request, asked once, with the user's token. Raises what the answer says."""
    return _get(url, {**build_hf_headers(library_name="fdf"), **(headers or {})}, params)


def _get(url: str, headers: dict[str, str], params: dict[str, Any] | None = None) -> Any:
    # A token does not follow a redirect to another host: the client sees to that.
    answer = get_session().get(
        url, headers=headers, params=params, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
    )
    hf_raise_for_status(answer)
    return answer


class HubFileSystem(HfFileSystem):  # type: ignore[misc]
    """`hf://datasets/owner/name@commit/path`: what was asked of a commit once is not asked again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known: dict[str, dict[str, Any]] = {}

    def _repo_and_revision_exist(
        self, repo_type: str, repo_id: str, revision: str | None
    ) -> tuple[bool, Exception | None]:
        if revision is not None and _COMMIT.fullmatch(revision):
            return True, None  # Whoever opens a file of it will be told otherwise.
        found: tuple[bool, Exception | None] = super()._repo_and_revision_exist(repo_type, repo_id, revision)
        return found

    def ls(self, path: str, *given: Any, **options: Any) -> Any:
        """Return what is in a folder; looked up again each time unless at a commit."""
        at: Any = self.resolve_path(path, revision=options.get("revision"))
        if not _COMMIT.fullmatch(getattr(at, "revision", "")):
            options["refresh"] = True
        return super().ls(path, *given, **options)

    def info(self, path: str, *given: Any, **options: Any) -> Any:
        """Return what is known of a file; its folder is not listed for it."""
        at: Any = self.resolve_path(path, revision=options.get("revision"))
        if not at.path or not _COMMIT.fullmatch(getattr(at, "revision", "")):
            return super().info(path, *given, **options)
        name = at.unresolve()
        if name not in self._known:
            found = self._api.get_paths_info(at.repo_id, [at.path], revision=at.revision, repo_type=at.repo_type)
            if not found:
                raise FileNotFoundError(f"hf://{name} does not exist")
            size = getattr(found[0], "size", None)
            kind = "directory" if size is None else "file"
            self._known[name] = {"name": name, "size": size or 0, "type": kind, "etag": _content_id(found[0])}
        return self._known[name]

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any) -> Any:
        if mode != "rb":
            return super()._open(path, mode, block_size=block_size, **kwargs)
        kwargs.setdefault("cache_type", "none")
        return HubFile(self, path, mode=mode, block_size=block_size or "default", **kwargs)


class HubFile(HfFileSystemFile):  # type: ignore[misc]
    """A file that is read by ranges, each asked for once."""

    _direct: str | None = None
    """Where the hub sent us for the bytes; good for a while, and not counted against its limit of requests."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        # Ranges are of the bytes that are stored: a compressed answer would have others.
        wanted = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        answer = self._asked_directly(wanted)
        if answer is None:
            at: Any = self.resolved_path
            url = hf_hub_url(at.repo_id, at.path, repo_type=at.repo_type, revision=at.revision)
            answer = hub_get(url, headers=wanted)
            asked, answered = urlsplit(url), urlsplit(str(answer.url))
            if answered.netloc != asked.netloc:
                self._direct = str(answer.url)
        data = bytes(answer.content)
        return data[start:end] if answer.status_code == 200 else data  # 200: it does not know ranges

    def _asked_directly(self, wanted: dict[str, str]) -> Any:
        """Return the answer from where the last one came from; None where there is none yet, or it is too old."""
        if self._direct is None:
            return None
        try:
            return _get(self._direct, wanted)
        except Exception as error:
            if http_status(error) not in (400, 401, 403, 404, 410):
                raise
            self._direct = None
            return None

    def read(self, length: int | None = -1) -> bytes:
        """Return the next bytes, fewer at the end."""
        if length is None or length < 0:
            length = self.size - self.loc
        data: bytes = super().read(length) if length else b""
        return data


def _content_id(found: Any) -> str:
    """Return what names the content of a file: the sha256 of a large one, else the id of the git object."""
    lfs = getattr(found, "lfs", None)
    return str(lfs.sha256 if lfs is not None else getattr(found, "blob_id", ""))
