"""URIs: local or remote, free of credentials, and the fsspec file system behind one."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import fsspec
import fsspec.config

from fdf.errors import MissingDependency, PlanError, Problem

_PROTOCOL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_SECRET = re.compile(
    r"(secret|password|passwd|token|signature|credential|access_?key|api_?key|^key$|^sig$)", re.IGNORECASE
)
_IDENTITY = {"s3": "AWS_", "s3a": "AWS_", "hf": "HF_"}
"""How the variables begin that say where a store is and who asks."""
_INSTALL = {
    "s3": 's3fs (pip install "fdf-core[s3]")',
    "s3a": 's3fs (pip install "fdf-core[s3]")',
    "hf": 'huggingface_hub (pip install "fdf-core[huggingface]")',
}


def protocol_of(uri: str) -> str:
    """Return the protocol of a URI in lower case; `file` for a plain path."""
    match = _PROTOCOL.match(uri)
    return match.group(1).lower() if match else "file"


def local_path(uri: str) -> str | None:
    """Return the absolute path behind a plain path or a file URI, or None where the URI is remote."""
    if protocol_of(uri) not in ("file", "local"):
        return None
    plain = _PROTOCOL.sub("", uri, count=1)
    return os.path.abspath(Path(plain).expanduser())  # noqa: PTH100 - links stay as they are written


def refuse_credentials(uri: str) -> None:
    """Raise PlanError where a URL holds a user, password, key or token: it would end in manifests and logs."""
    if protocol_of(uri) in ("file", "local"):
        return
    try:
        parts = urlsplit(uri)
        container = protocol_of(uri) in ("abfs", "abfss", "az")  # abfs://container@account/path is no user name
        in_authority = parts.password is not None or (parts.username is not None and not container)
    except ValueError:
        return
    query = [k for k, v in parse_qsl(parts.query, keep_blank_values=True) if v and _SECRET.search(k)]
    if in_authority or query:
        raise PlanError(
            Problem(
                code="FDF301",
                message=f"credentials stand in the URL {redacted(uri)}",
                hint="they would be written into manifests and logs",
                help="remove them from the recipe and give them in the environment"
                " (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_ENDPOINT_URL)",
            )
        )


def redacted(text: str) -> str:
    """Return a text with the credentials of every URL in it replaced by `***`; safe to log or raise."""
    text = re.sub(r"(?<=://)[^/@\s]*:[^/@\s]*@", "***@", text)
    text = re.sub(r"((?:s3a?|https?|gs|ftp)://)[^/@\s]+@", r"\1***@", text)
    return re.sub(
        r"([?&;][^=&\s]*(?:secret|password|token|sig|credential|key)[^=&\s]*=)[^&\s]+",
        r"\1***",
        text,
        flags=re.IGNORECASE,
    )


def _instance(protocol: str, authority: str) -> Any:
    # One instance per process, because event loops and connection pools do not survive a fork, and per endpoint and
    # identity, because a notebook may change these.
    prefix = _IDENTITY.get(protocol)
    given = tuple(sorted(item for item in os.environ.items() if prefix and item[0].startswith(prefix)))
    return _made(protocol, "" if protocol == "hf" else authority, (os.getpid(), given))


@cache
def _made(protocol: str, authority: str, _situation: object) -> Any:
    if protocol == "hf":
        from fdf.storage.hub import HubFileSystem

        return HubFileSystem(skip_instance_cache=True)
    # Listings are never cached: other writers change the same folders.
    options: dict[str, Any] = {"use_listings_cache": False}
    s3 = protocol in ("s3", "s3a")
    if s3:
        configured = dict(fsspec.config.conf.get(protocol, {}).get("config_kwargs", {}))
        # Trying again is for `fdf.storage.retry` alone: attempts of botocore, s3fs and FDF would multiply.
        configured["retries"] = {"total_max_attempts": 1}
        options.update(default_cache_type="none", default_fill_cache=False, config_kwargs=configured)
    probe = f"{protocol}://{authority}/"
    fs, _ = fsspec.core.url_to_fs(probe, skip_instance_cache=True, **options)
    if s3:
        fs.retries = 1
    return fs


def filesystem(uri: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URI and the path within it.

    Credentials and the endpoint come from the environment. Raises PlanError for credentials in the URI and for an
    unknown protocol, MissingDependency where its package is absent.
    """
    refuse_credentials(uri)
    local = local_path(uri)
    if local is not None:
        return _instance("file", ""), local
    protocol = protocol_of(uri)
    try:
        fs = _instance(protocol, urlsplit(uri).netloc)
    except ImportError as error:
        needed = _INSTALL.get(protocol, str(error))
        raise MissingDependency(f"{redacted(uri)} cannot be opened: `{protocol}://` needs {needed}") from error
    except ValueError as error:
        raise PlanError(
            f"{redacted(uri)} cannot be opened: {error}", help="use a local path or an fsspec URL"
        ) from error
    return fs, str(fs._strip_protocol(uri))  # noqa: SLF001 - what fsspec's own openers call


def name_of(uri: str) -> str:
    """Return the last part of a URI's path, unquoted where it is a web address."""
    name = uri.rstrip("/").rsplit("/", 1)[-1]
    return unquote(name) if protocol_of(uri) in ("http", "https") else name
