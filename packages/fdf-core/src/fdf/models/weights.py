"""Weights by a local path or a hub's name and revision: found before any row is read, and named by their content.

The plan resolves them, once, in the driver: a revision becomes a commit, and the commit travels with the operator, so
that a branch which moves on changes nothing for a run on its way. `fetch` brings what is not there yet onto a machine,
under the hub library's own locks: one process downloads, the others wait. Without a network (`HF_HUB_OFFLINE`) only
the hub's cache is looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from fdf.errors import FdfError, PlanError, Problem
from fdf.fingerprint import digest, sha256_hex
from fdf.operator import cache_dir

CONFIG = "config.json"
_SHARDS = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_KEPT = (".json", ".safetensors", ".model", ".txt", ".jinja")
_DEFAULT_REVISION = "main"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One model, as the plan found it."""

    model: str
    """As the recipe names it: a folder, or a name on the hub."""
    commit: str | None
    """The hub's commit; None for a folder."""
    digest: str
    """sha256 over the names and checksums of the files that count."""
    files: tuple[str, ...]
    operator: str
    """Whose they are, for messages."""

    def assets(self) -> dict[str, str]:
        """Return what belongs to a fingerprint and a manifest: the checksum, and the commit where there is one."""
        return {"weights": f"sha256:{self.digest}", **({"revision": self.commit} if self.commit else {})}

    def fetch(self) -> Path:
        """Return the folder that holds the files, after downloading what this machine lacks. Raises PlanError."""
        if self.commit is None:
            return Path(self.model).expanduser()
        folder = _snapshot(self.model, self.commit)
        if folder is not None and all((folder / name).exists() for name in self.files):
            return folder
        hub = _hub(self)
        if _is_offline():
            raise _absent(self.model, self.commit, self.operator, why="HF_HUB_OFFLINE is set")
        try:
            return Path(hub.snapshot_download(self.model, revision=self.commit, allow_patterns=list(self.files)))
        except Exception as error:  # a hub fails in many ways: each means that the weights are not here
            raise _absent(self.model, self.commit, self.operator, why=f"{type(error).__name__}: {error}") from error

    def config(self) -> Mapping[str, Any]:
        """Return the model's `config.json`; of a hub's model only this file is fetched. Raises PlanError."""
        folder = Path(self.model).expanduser() if self.commit is None else _snapshot(self.model, self.commit)
        path = folder / CONFIG if folder is not None else None
        if path is None or not path.exists():
            path = Path(_hub(self).hf_hub_download(self.model, CONFIG, revision=self.commit))
        return _json(path, self.operator)


def resolve(model: str, *, revision: str | None = None, trust_remote_code: bool = False, operator: str) -> Weights:
    """Find a model: a folder where `model` is the path of one, else in the hub's cache or on the hub.

    Raises PlanError that names what is absent and the command that brings it.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise _refused(f"`revision` is for models of a hub, and {model} is a folder", "leave it out")
        return _of_folder(model, folder, trust_remote_code=trust_remote_code, operator=operator)
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise _refused(
            f"`model` of {operator}: there is no folder {model}",
            "give the folder that save_pretrained wrote, or a name on the hub such as `owner/name`",
        )
    return _of_hub(model, revision or _DEFAULT_REVISION, trust_remote_code=trust_remote_code, operator=operator)


def _of_folder(model: str, folder: Path, *, trust_remote_code: bool, operator: str) -> Weights:
    names = _counting((p.name for p in folder.iterdir() if p.is_file()), trust_remote_code=trust_remote_code)
    _check_whole(model, folder, names, operator=operator)
    sums = {name: _checksum(folder / name) for name in names}
    return Weights(model=model, commit=None, digest=digest(sums), files=names, operator=operator)


def _of_hub(model: str, revision: str, *, trust_remote_code: bool, operator: str) -> Weights:
    hub = _hub_library(operator)
    why = "HF_HUB_OFFLINE is set"
    if not _is_offline():
        try:
            info = hub.HfApi().model_info(model, revision=revision, files_metadata=True)
        except Exception as error:  # noqa: BLE001 (a hub fails in many ways; what the cache holds may still do)
            why = f"{type(error).__name__}: {error}"
        else:
            found = {s.rfilename: s.lfs.sha256 if s.lfs else s.blob_id for s in info.siblings}
            names = _counting(found, trust_remote_code=trust_remote_code)
            sums = {name: found[name] for name in names}
            return Weights(model=model, commit=info.sha, digest=digest(sums), files=names, operator=operator)
    folder = _snapshot(model, revision)
    if folder is None:
        raise _absent(model, revision, operator, why=why)
    names = _counting((p.name for p in folder.iterdir()), trust_remote_code=trust_remote_code)
    try:
        _check_whole(model, folder, names, operator=operator)
    except PlanError as error:
        raise _absent(model, revision, operator, why=error.problems[0].message) from error
    # A cached file is a link to a blob that is named by its checksum, which the hub told and the download checked.
    sums = {name: (folder / name).resolve().name for name in names}
    return Weights(model=model, commit=folder.name, digest=digest(sums), files=names, operator=operator)


def _counting(names: Iterable[str], *, trust_remote_code: bool) -> tuple[str, ...]:
    """Return the files that decide what a model says: at the top, and one format of weights."""
    top = sorted(n for n in names if "/" not in n)
    kept = [n for n in top if n.endswith(_KEPT)]
    if not any(n.endswith(".safetensors") for n in kept):
        kept += [n for n in top if n.startswith("pytorch_model") and n.endswith(".bin")]
    if trust_remote_code:
        kept += [n for n in top if n.endswith(".py")]
    return tuple(sorted(kept))


def _check_whole(model: str, folder: Path, names: tuple[str, ...], *, operator: str) -> None:
    """Raise PlanError where a folder lacks its configuration or (a part of) its weights."""
    lacking = [CONFIG] if CONFIG not in names else []
    for index in (n for n in _SHARDS if n in names):
        weights = _json(folder / index, operator).get("weight_map")
        lacking += sorted(set(weights.values()) - set(names)) if isinstance(weights, dict) else [index]
    if not any(n.endswith((".safetensors", ".bin")) for n in names):
        lacking.append("model.safetensors")
    if lacking:
        raise _refused(
            f"`model` of {operator}: {model} lacks {', '.join(lacking[:4])}",
            "give a folder that save_pretrained wrote, or download the model whole",
        )


def _snapshot(model: str, revision: str) -> Path | None:
    """Return the folder in the hub's cache that holds a revision, or None; in a layout that is the same for years."""
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    commit = revision
    with suppress(OSError):
        commit = (repository / "refs" / revision).read_text().strip()
    folder = repository / "snapshots" / commit
    return folder if folder.is_dir() else None


def _checksum(path: Path) -> str:
    """Return a file's sha256, hashed again only where its size, time or inode has changed since."""
    stat = path.stat()
    key = sha256_hex(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}")[:32]
    kept = cache_dir() / "checksums" / key
    with suppress(OSError):
        known = kept.read_text()
        if len(known) == 64:
            return known
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    with suppress(OSError):  # a cache that cannot be written costs time only
        kept.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=kept.parent, delete=False) as aside:
            aside.write(found)
        os.replace(aside.name, kept)  # noqa: PTH105 (a name, not a path)
    return found


def _json(path: Path, operator: str) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(f"`model` of {operator}: {path} cannot be read: {error}", "download it again") from error
    return value if isinstance(value, dict) else {}


def _is_offline() -> bool:
    from huggingface_hub import constants

    # The library looks at its variable once, when it is imported.
    asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return asked or bool(constants.is_offline_mode())


def _hub(weights: Weights) -> Any:
    return _hub_library(weights.operator)


def _hub_library(operator: str) -> Any:
    from fdf.models.libraries import require

    return require("huggingface_hub", operator=operator, install="huggingface_hub")


def _absent(model: str, revision: str, operator: str, *, why: str) -> FdfError:
    chosen = "" if revision == _DEFAULT_REVISION else f" --revision {revision}"
    return PlanError(
        Problem(
            code="FDF371",
            message=f"the weights of {operator}, `{model}` at `{revision}`, are not on this machine ({why})",
            help=f"hf download {model}{chosen}",
        )
    )


def _refused(message: str, what_next: str) -> PlanError:
    return PlanError(Problem(code="FDF370", message=message, help=what_next))
