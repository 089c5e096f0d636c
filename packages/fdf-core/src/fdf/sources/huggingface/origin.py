"""Where a dataset lies: in a repository of the hub at one commit, or in a folder on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import quote

from fdf.errors import FdfError, MissingDependency, PlanError, Problem, TransientError, did_you_mean
from fdf.sources.base import InputFile
from fdf.sources.listing import list_files
from fdf.storage.failures import HUB_HELP
from fdf.storage.retry import causes, http_status, retrying

T = TypeVar("T")

_SHA = 40
INSTALL = 'pip install "fdf-core[huggingface]"'


class Origin(Protocol):
    """A dataset's files: what they are called, how to read a small one."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def paths(self) -> list[str]:
        """Return the path of every file."""

    def read(self, path: str) -> bytes:
        """Return a small file whole."""

    def inputs(self, paths: list[str]) -> list[InputFile]:
        """Return what is to be known of some of the files, sorted by URI."""


@dataclass(frozen=True)
class Pin:
    """A revision, resolved."""

    repository: str
    """The name under which the hub knows it now."""
    revision: str
    commit: str


@dataclass(frozen=True)
class HubOrigin:
    """A dataset repository at one commit. A file's version is the id of its content, the same in every commit."""

    pin: Pin

    @property
    def name(self) -> str:
        return self.pin.repository

    @property
    def root(self) -> str:
        """The URI that all files are below."""
        return f"hf://datasets/{self.pin.repository}@{self.pin.commit}"

    def _entries(self) -> dict[str, InputFile]:
        """Return every file of the commit by path; asked once, page by page."""
        known: dict[str, InputFile] | None = self.__dict__.get("_known")
        if known is None:
            known = {}
            route = f"tree/{self.pin.commit}"
            page, after = _page(self.pin, route, {"recursive": "true", "expand": "false"})
            while True:
                for entry in page:
                    if entry["type"] == "file":
                        path = entry["path"]
                        version = (entry.get("lfs") or entry)["oid"]
                        known[path] = InputFile(
                            uri=f"{self.root}/{path}", path=path, size=int(entry["size"]), version=version
                        )
                if after is None:
                    break
                page, after = _page(self.pin, after, {})
            self.__dict__["_known"] = known
        return known

    def paths(self) -> list[str]:
        return list(self._entries())

    def read(self, path: str) -> bytes:
        from fdf.storage.hub import hub_get

        url = f"{endpoint()}/datasets/{self.pin.repository}/resolve/{self.pin.commit}/{quote(path)}"
        return bytes(_asked(self.pin.repository, lambda: hub_get(url).content, what=f"{self.root}/{path}"))

    def inputs(self, paths: list[str]) -> list[InputFile]:
        return sorted((self._entries()[path] for path in paths), key=lambda f: f.uri)


@dataclass(frozen=True)
class FolderOrigin:
    """A folder on this machine."""

    folder: Path
    identity: Literal["stat", "content"]

    @property
    def name(self) -> str:
        return str(self.folder)

    def paths(self) -> list[str]:
        return [p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file()]

    def read(self, path: str) -> bytes:
        return Path(self.folder, path).read_bytes()

    def inputs(self, paths: list[str]) -> list[InputFile]:
        whole = [str(self.folder / path) for path in paths]
        top = str(self.folder)
        listed = list_files(whole, extensions=(), identity=self.identity)
        return [dataclasses.replace(f, path=f.uri[len(top) :].lstrip("/")) for f in listed]


def endpoint() -> str:
    """Return the address of the hub. Raises MissingDependency where its client is not installed."""
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise MissingDependency("`huggingface` sources need the package `huggingface_hub`", help=INSTALL) from error
    return str(constants.ENDPOINT)


def resolve(repository: str, revision: str | None) -> Pin:
    """Ask the hub which commit a branch, tag or (short) commit is. Raises PlanError for what is not there."""
    from fdf.storage.hub import hub_get

    named = revision or "main"
    url = f"{endpoint()}/api/datasets/{repository}/revision/{quote(named, safe='')}"
    told = _asked(repository, lambda: hub_get(url).json(), what=f"the dataset {repository} on the hub", revision=named)
    return Pin(repository=str(told["id"]), revision=named, commit=str(told["sha"]))


def _page(pin: Pin, route: str, params: dict[str, str]) -> tuple[list[dict[str, Any]], str | None]:
    """Return one page of the API, and the address of the next."""
    from fdf.storage.hub import hub_get

    url = route if "://" in route else f"{endpoint()}/api/datasets/{pin.repository}/{route}"
    ask = partial(hub_get, url, params=params or None)
    answer = _asked(pin.repository, ask, what=f"the files of {pin.repository}", revision=pin.commit)
    return answer.json(), answer.links.get("next", {}).get("url")


def _asked(repository: str, ask: Callable[[], T], *, what: str, revision: str = "") -> T:
    """Return the hub's answer, tried again where that may help. Raises PlanError for what is not there,
    MissingDependency for what may not be read, or cannot from here."""
    endpoint()
    with told(repository, revision):
        return retrying(ask, what=f"{what} ({endpoint()})")


@contextmanager
def told(repository: str, revision: str = "") -> Iterator[None]:
    """Turn what the hub's client raises into an error that says what is not there, or who may not read it."""
    try:
        yield
    except FdfError:
        raise
    except Exception as error:
        # The client's own errors are known by name: none of its modules need be there to be caught.
        kinds = {kind.__name__ for step in causes(error) for kind in type(step).__mro__}
        if "OfflineModeIsEnabled" in kinds:
            message = (
                f"the hub is switched off here (HF_HUB_OFFLINE), so the dataset `{repository}` cannot be looked up"
            )
            raise MissingDependency(message, help="unset HF_HUB_OFFLINE, or give `path` a local folder") from error
        if isinstance(error, TransientError):
            raise
        if "GatedRepoError" in kinds:
            message = f"the dataset `{repository}` is gated: its owner lets only those read it who asked"
            raise MissingDependency(
                message, help="ask on its page, then set HF_TOKEN to a token of the account that was let in"
            ) from error
        if "RevisionNotFoundError" in kinds:
            raise _no_revision(repository, revision) from error
        if "RepositoryNotFoundError" in kinds or "HFValidationError" in kinds:
            message = f"there is no dataset `{repository}` on the hub ({endpoint()}), or it is private"
            help_ = f"check the name; for a private one, {HUB_HELP.split(',', 1)[0]}"
            raise PlanError(Problem(code="FDF300", message=message, about="path", help=help_)) from error
        if http_status(error) in (401, 403):
            raise MissingDependency(f"the hub refuses the dataset `{repository}`", help=HUB_HELP) from error
        raise


def _no_revision(repository: str, revision: str) -> PlanError:
    from fdf.storage.hub import hub_get

    refs = retrying(lambda: hub_get(f"{endpoint()}/api/datasets/{repository}/refs").json(), what=repository)
    known = [ref["name"] for kind in ("branches", "tags") for ref in refs.get(kind, ())]
    return PlanError(
        Problem(
            code="FDF300",
            message=f"the dataset `{repository}` has no revision `{revision}`",
            about="revision",
            hint=did_you_mean(revision, known),
            help=f"it has: {', '.join(known)}; a commit is named by its sha"
            if len(revision) != _SHA
            else "the commit is gone from the repository; `fdf run --fresh` begins anew",
        )
    )
