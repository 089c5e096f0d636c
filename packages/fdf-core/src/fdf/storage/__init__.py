"""Places where shards, receipts and manifests are committed: `open_store(uri)` gives the right one.

The contract is `fdf.storage.base.Store`. Backends are imported when a URI asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fdf.storage.base import Store


def open_store(uri: str) -> Store:
    """Open the store below a URI: a local path, `s3://bucket/prefix`, or any other fsspec URL.

    Nothing is created or contacted before the first call. Raises PlanError for a URL with credentials in it,
    MissingDependency for a protocol whose package is not installed.
    """
    from fdf.storage.uri import local_path, protocol_of, refuse_credentials

    refuse_credentials(uri)
    local = local_path(uri)
    if local is not None:
        from fdf.storage.local import LocalStore

        return LocalStore(local)
    if protocol_of(uri) in ("s3", "s3a"):
        from fdf.storage.s3 import S3Store

        return S3Store(uri)
    from fdf.storage.remote import FsspecStore

    return FsspecStore(uri)
