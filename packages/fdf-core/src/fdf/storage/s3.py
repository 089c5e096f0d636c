"""A store on S3 and what speaks its language: conditional PUTs are put-if-absent and compare-and-swap."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from fsspec.asyn import sync

from fdf.errors import MissingDependency, PlanError, TransientError
from fdf.storage.base import Entry, checked_path
from fdf.storage.failures import CREDENTIALS_HELP, refusal
from fdf.storage.remote import open_remote, remote_scratch
from fdf.storage.retry import ATTEMPTS, http_code, http_status, is_transient, retrying, succeeded, wait_or_give_up
from fdf.storage.uri import filesystem

T = TypeVar("T")

_DELETE_AT_ONCE = 1000  # the S3 limit of one DeleteObjects request


class S3Store:
    """A bucket, or a prefix in one. Credentials, region and endpoint come from the environment."""

    def __init__(self, uri: str) -> None:
        bucket, _, prefix = uri.split("://", 1)[1].partition("/")
        prefix = prefix.strip("/")
        self.root = f"s3://{bucket}/{prefix}".rstrip("/")
        self.exclusive = False
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    @property
    def _fs(self) -> Any:
        return filesystem(self.root)[0]

    def probe(self) -> bool:
        """Put an object twice under conditions that must fail; a store that ignores them is for one writer only."""
        path = f".fdf-probe-{secrets.token_hex(8)}"
        wrong = '"00000000000000000000000000000000"'
        try:
            self._try(lambda: self._put(path, b"{}"), path)
            self.exclusive = not (self._refuses(path, IfNoneMatch="*") and self._refuses(path, IfMatch=wrong))
        finally:
            # A role that may write and not delete can still run; what stays behind are two bytes.
            with suppress(MissingDependency, TransientError):
                self.delete([path])
        return not self.exclusive

    def _refuses(self, path: str, **condition: str) -> bool:
        """Say whether the store refuses to replace an object under a condition that does not hold."""

        def put() -> bool:
            try:
                self._put(path, b"{}", **condition)
            except Exception as error:
                # 400 and 501: it does not know the header, and says so.
                if http_status(error) in {400, 409, 412, 501}:
                    return http_status(error) in {409, 412}
                raise
            return False

        return self._try(put, path)

    def _put(self, path: str, data: bytes, **condition: str) -> None:
        self._fs.call_s3("put_object", **self._names(path), Body=data, **condition)

    def read(self, path: str) -> bytes:
        return self._get(path)[0]

    def read_tagged(self, path: str) -> tuple[bytes, str] | None:
        try:
            return self._get(path)
        except FileNotFoundError:
            return None

    def _get(self, path: str) -> tuple[bytes, str]:
        fs = self._fs

        async def get() -> tuple[bytes, str]:
            answer = await fs._call_s3("get_object", **self._names(path))  # noqa: SLF001 - s3fs's own coroutine
            async with answer["Body"] as body:
                return await body.read(), answer["ETag"]

        found: tuple[bytes, str] = self._try(lambda: sync(fs.loop, get), path)
        return found

    def put_if_absent(self, path: str, data: bytes) -> bool:
        if self.exclusive:
            there = self.read_tagged(path)
            if there is not None:
                return False
            self._try(lambda: self._put(path, data), path)
            return True
        return self._put_if(path, data, {"IfNoneMatch": "*"}, tag=None)

    def swap(self, path: str, data: bytes, tag: str | None) -> bool:
        if self.exclusive:
            there = self.read_tagged(path)
            if (there[1] if there else None) != tag:
                return False
            self._try(lambda: self._put(path, data), path)
            return True
        return self._put_if(path, data, {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}, tag=tag)

    def _put_if(self, path: str, data: bytes, condition: dict[str, str], *, tag: str | None) -> bool:
        """PUT under a condition. A refusal or a broken connection does not say who won: what is there does."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._explained(lambda: self._put(path, data, **condition), path)
            except FileNotFoundError:
                return False  # If-Match on an object that is gone
            except Exception as error:
                if http_status(error) not in (409, 412) and not is_transient(error):
                    raise
                there = self.read_tagged(path)
                if there is not None and there[0] == data:
                    return True
                if (there[1] if there else None) != tag:
                    return False
                wait_or_give_up(error, what=f"{self.root}/{path}", attempt=attempt)
            else:
                succeeded()
                return True
        raise AssertionError("unreachable: the last attempt returns or raises")

    def scratch(self) -> Path:
        return remote_scratch()

    def place(self, file: Path, path: str) -> None:
        if self._size(path) != file.stat().st_size:
            self._try(lambda: self._fs.put_file(str(file), f"{self._bucket}/{self._key(path)}"), path)
        file.unlink()

    def _size(self, path: str) -> int | None:
        try:
            return int(self._try(lambda: self._fs.call_s3("head_object", **self._names(path)), path)["ContentLength"])
        except FileNotFoundError:
            return None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        # Straight from the API: fsspec's listings are cached and made for folders.
        where = self._key(prefix.rstrip("/") + "/") if prefix else self._prefix
        more: dict[str, str] = {}
        while True:
            ask = {"Bucket": self._bucket, "Prefix": where, **more}
            try:
                page = self._try(partial(self._fs.call_s3, "list_objects_v2", **ask), prefix)
            except FileNotFoundError:
                return
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):  # folder markers that consoles make
                    path = item["Key"][len(self._prefix) :]
                    yield Entry(path, int(item["Size"]), item["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, paths: Iterable[str]) -> None:
        keys = [self._key(path) for path in paths]
        for start in range(0, len(keys), _DELETE_AT_ONCE):
            some = [{"Key": key} for key in keys[start : start + _DELETE_AT_ONCE]]
            wanted = {"Objects": some, "Quiet": True}
            answer = self._try(partial(self._fs.call_s3, "delete_objects", Bucket=self._bucket, Delete=wanted), "")
            failed = [e for e in answer.get("Errors", ()) if e.get("Code") != "NoSuchKey"]
            if failed:
                first = failed[0]
                raise TransientError(
                    f"{len(failed)} objects below {self.root} could not be deleted, first"
                    f" {first.get('Key')}: {first.get('Code')} {first.get('Message')}"
                )

    def open(self, path: str) -> pa.NativeFile:
        return self._try(lambda: open_remote(self._fs, f"{self._bucket}/{self._key(path)}"), path)

    def _key(self, path: str) -> str:
        return self._prefix + checked_path(path)

    def _names(self, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._key(path)}

    def _try(self, call: Callable[[], T], path: str) -> T:
        return self._explained(lambda: retrying(call, what=f"{self.root}/{path}"), path)

    def _explained(self, call: Callable[[], T], path: str) -> T:
        """Return `call()`; errors of credentials and buckets say what to do next."""
        try:
            return call()
        except FileNotFoundError as error:
            if http_code(error) == "NoSuchBucket":
                raise PlanError(
                    f"the bucket `{self._bucket}` of {self.root} does not exist",
                    help="create it, or check the name, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION",
                ) from error
            raise
        except Exception as error:
            why = refusal(error)
            if why is None:
                raise
            raise MissingDependency(
                f"{self.root}/{path}: {why}", help=CREDENTIALS_HELP.format(what="read, write and delete")
            ) from error
