r"""A stand-in for the Hugging Face hub on this machine, for tests that must not need the internet.

```python
with hub_stand_in(tmp_path) as hub:
    hub.dataset("org/name").commit({"data/train.jsonl": '{"text": "a"}\n'})
```

It speaks the protocol that `huggingface_hub` speaks to read: repositories of datasets and models with commits,
branches and tags, gated and private ones, paged trees, files by range, large ones behind a redirect. Xet is neither
offered nor asked for. Faults can be ordered, and every request is on record.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fdf.testing.hub.repository import Repository
from fdf.testing.hub.server import TOKEN, Asked, CdnHandler, Fault, HubHandler, Serving, Shared

__all__ = ["TOKEN", "Asked", "HubStandIn", "Repository", "hub_stand_in"]


class HubStandIn:
    """A running stand-in: what it holds, what it was asked, and what shall go wrong."""

    def __init__(self, *, page_size: int = 1000) -> None:
        self._shared = Shared(page_size=page_size)
        self._hub = Serving(HubHandler, self._shared)
        self._cdn = Serving(CdnHandler, self._shared)
        self._shared.hub, self._shared.cdn = self._hub.url, self._cdn.url
        self.url = self._hub.url

    def dataset(self, name: str) -> Repository:
        """Return a dataset repository, made where there is none."""
        return self._shared.repositories.setdefault(("dataset", name), Repository(name, "dataset"))

    def model(self, name: str) -> Repository:
        """Return a model repository, made where there is none."""
        return self._shared.repositories.setdefault(("model", name), Repository(name, "model"))

    @property
    def requests(self) -> list[Asked]:
        """All requests until now, in the order in which they were answered."""
        with self._shared.lock:
            return list(self._shared.asked)

    def asked(self, pattern: str) -> list[Asked]:
        """Return the requests whose `METHOD path?query` matches a regular expression."""
        return [r for r in self.requests if re.search(pattern, f"{r.method} {r.path}")]

    def forget(self) -> None:
        """Begin the record of requests anew."""
        with self._shared.lock:
            self._shared.asked.clear()

    def fail(self, pattern: str, *, times: int, status: int = 503) -> None:
        """Answer the next requests that match (`METHOD path?query`) with an error; status 0 cuts the connection in the
        middle of the answer."""
        with self._shared.lock:
            self._shared.faults.append(Fault(re.compile(pattern), times, status))

    def slow(self, pattern: str, *, times: int, seconds: float) -> None:
        """Let the next requests that match wait for their answer."""
        with self._shared.lock:
            self._shared.faults.append(Fault(re.compile(pattern), times, 200, seconds))

    def close(self) -> None:
        """Stop answering: whoever asks then meets a closed port."""
        self._hub.close()
        self._cdn.close()


@contextmanager
def hub_stand_in(folder: str | os.PathLike[str], *, page_size: int = 1000) -> Iterator[HubStandIn]:
    """Run a stand-in and point this process, and those that it starts, at it; caches are kept below `folder`."""
    hub = HubStandIn(page_size=page_size)
    cache = Path(folder, "hf-home")
    given: dict[str, str | None] = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(cache),
        "HF_HUB_CACHE": str(cache / "hub"),
        "HF_DATASETS_CACHE": str(cache / "datasets"),
        "HF_HUB_OFFLINE": "0",
        "HF_DATASETS_OFFLINE": None,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": None,
    }
    before = {name: os.environ.get(name) for name in given}
    _set(given)
    told = _tell(endpoint=hub.url, cache=str(cache), offline=False)
    try:
        yield hub
    finally:
        hub.close()
        _set(before)
        _tell(**told)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _tell(*, endpoint: str, cache: str, offline: bool, hub_cache: str = "", datasets_cache: str = "") -> dict[str, Any]:
    """Tell the libraries, which read the environment when they are imported; return what they were told before."""
    from huggingface_hub import constants

    before = {
        "endpoint": constants.ENDPOINT,
        "cache": constants.HF_HOME,
        "offline": constants.HF_HUB_OFFLINE,
        "hub_cache": constants.HF_HUB_CACHE,
    }
    new: dict[str, Any] = {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": cache,
        "HF_HUB_CACHE": hub_cache or f"{cache}/hub",
        "HF_HUB_OFFLINE": offline,
    }
    for name, value in new.items():
        setattr(constants, name, value)
    if "huggingface_hub.hf_api" in sys.modules:
        sys.modules["huggingface_hub.hf_api"].api.endpoint = endpoint
    config = getattr(sys.modules.get("datasets"), "config", None)
    if config is not None:
        before["datasets_cache"] = str(config.HF_DATASETS_CACHE)
        config.HF_ENDPOINT = endpoint
        config.HUB_DATASETS_URL = endpoint + "/datasets/{repo_id}/resolve/{revision}/{path}"
        config.HF_HUB_OFFLINE = config.HF_DATASETS_OFFLINE = offline
        config.HF_CACHE_HOME = cache
        config.HF_DATASETS_CACHE = Path(datasets_cache or f"{cache}/datasets")
    return before
