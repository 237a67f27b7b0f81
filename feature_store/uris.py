"""Uris: which file system one means, and the path in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pyarrow import fs

from feature_store.errors import StoreError

OPTIONS = re.compile(
    r"\?(?:region|scheme|endpoint_override|allow_bucket_creation|allow_bucket_deletion|allow_delayed_open"
    r"|background_writes|smart_defaults|tls_ca_file_path|retry_limit_seconds|project_id|enable_tls"
    r"|blob_storage_authority|dfs_storage_authority|credential_kind)=.*",
    re.DOTALL,
)
"""What pyarrow takes at the end of a uri; another question mark belongs to a name, or to a glob."""

LOCAL = ("file", "local")
BUCKETS = ("s3", "gs", "gcs")

DEFAULTS = (
    # For which Google's client asks again by itself: otherwise a quarter of an hour, also where there are no
    # credentials and so no answer.
    (("gs://", "gcs://"), "retry_limit_seconds", "30"),
    # A small file is one request, and not an upload in parts, which takes three and is left behind by a kill.
    (("s3://",), "allow_delayed_open", "true"),
)
"""Options of pyarrow's file systems where the uri has none."""


def split(uri: str) -> tuple[str, str, str]:
    """``SCHEME://USER@HOST``, the path below it and ``?OPTIONS``, of which all but the first may be empty."""
    options = OPTIONS.search(uri)
    whole = uri[: options.start()] if options else uri
    scheme, _, rest = whole.partition("://")
    host, slash, below = rest.partition("/")
    return f"{scheme}://{host or slash * (scheme in LOCAL)}", below, options[0] if options else ""


def open_uri(uri: str) -> tuple[fs.FileSystem, str]:
    """pyarrow's own file system where it has one for the scheme, fsspec's otherwise; and the path there, in which %20
    stands for a space.

    Raises:
        StoreError: there is none, or it does not take such an address.
    """
    for schemes, option, value in DEFAULTS:
        if uri.startswith(schemes) and f"{option}=" not in uri:
            uri += f"{'&' if '?' in uri else '?'}{option}={value}"
    try:
        opened: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(uri)
        return opened
    except ValueError as error:
        if "Unrecognized filesystem type" not in str(error):
            raise StoreError(f"{uri} cannot be opened: {error}") from error
    import fsspec  # here, because most stores need nothing of it

    try:
        found, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise StoreError(f"{uri}: no file system for this address: {error}") from error
    return as_arrow(found), path


def locate(uri: str, opened: Callable[[str], tuple[fs.FileSystem, str]] = open_uri) -> tuple[fs.FileSystem, str]:
    """The file system of a uri, and the path in it. No character of a name has a meaning of its own, but a uri may end
    with ``OPTIONS``, as in ``s3://bucket/prefix?region=eu-west-1&endpoint_override=host:9000``.

    Args:
        opened: ``open_uri``, or what remembers its answers.

    Raises:
        StoreError: as ``open_uri``, or there is a password in it, or no bucket.
    """
    address, below, options = split(uri)
    scheme, _, named = address.partition("://")
    if not named and scheme in BUCKETS:
        raise StoreError(f"{uri} names no bucket; expected {scheme}://BUCKET/PATH")
    user, at, host = named.rpartition("@")
    if at and ":" in user:
        raise StoreError(
            f"{scheme}://...@{host}: a password in an address would be kept with what is written, and shown. Give it "
            f"in the environment (for s3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and the address as "
            f"{scheme}://{host}"
        )
    filesystem, root = opened(address + options)
    return filesystem, f"{root.rstrip('/')}/{below}".rstrip("/")


def as_arrow(filesystem: Any) -> fs.FileSystem:
    if isinstance(filesystem, fs.FileSystem):
        return filesystem
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem))
