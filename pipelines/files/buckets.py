"""Objects of a bucket in pages, as pyarrow has no such call: it gives a whole listing at once.

Names come from the clients of Amazon and Google, which ask for the next thousand when they are wanted. They are
given the same address, region and rights as pyarrow, which reads the objects, and look in the same places for
credentials.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from pyarrow import fs

from feature_store import retry

ATTEMPTS = 3
"""For a request, by boto itself; after them the request is made again as ``retried`` does."""


class Object(NamedTuple):
    key: str
    size: int
    time: datetime


def objects(filesystem: fs.FileSystem, path: str, begin: str = "") -> Iterator[Object]:
    """All objects below ``path``, which is ``bucket`` or ``bucket/prefix``, in the order of their keys; of these only
    what begins with ``begin`` behind the path.

    Raises:
        OSError: the bucket cannot be listed.
    """
    bucket, _, prefix = path.partition("/")
    pages = _amazon if isinstance(filesystem, fs.S3FileSystem) else _google
    # What pyarrow pickles of a file system are the arguments that make it.
    return pages(filesystem.__reduce__()[1][0], filesystem, bucket, (prefix + "/" if prefix else "") + begin)


def _amazon(options: dict[str, Any], filesystem: fs.S3FileSystem, bucket: str, prefix: str) -> Iterator[Object]:
    asked = {"Bucket": bucket, "Prefix": prefix}
    with _amazon_errors():
        client = _amazon_client(options, filesystem)
    while True:
        page = retry.retried(lambda: _page(client, asked))
        for item in page.get("Contents", []):
            yield Object(item["Key"], item["Size"], item["LastModified"])
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _page(client: Any, asked: dict[str, str]) -> dict[str, Any]:
    with _amazon_errors():
        page: dict[str, Any] = client.list_objects_v2(**asked)
        return page


def _amazon_client(options: dict[str, Any], filesystem: fs.S3FileSystem) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.session import get_session

    endpoint = address(options)
    below_host = options["force_virtual_addressing"] or not endpoint
    config = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        s3={"addressing_style": "auto" if below_host else "path"},
    )
    core = get_session()
    # boto's own guesses at the form of a time, which takes three quarters of the whole listing.
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=datetime.fromisoformat)
    keys = (options[name] or None for name in ("access_key", "secret_key", "session_token"))
    session = boto3.Session(*keys, botocore_session=core)
    if options["anonymous"] or session.get_credentials() is None:  # pyarrow asks unsigned, too
        config = config.merge(Config(signature_version=UNSIGNED))
    return session.client(
        "s3",
        region_name=filesystem.region or os.environ.get("AWS_REGION"),
        endpoint_url=endpoint,
        verify=options["tls_ca_file_path"] or None,
        config=config,
    )


@contextmanager
def _amazon_errors() -> Iterator[None]:
    from botocore import exceptions as boto

    try:
        yield
    except (boto.BotoCoreError, boto.ClientError, ValueError) as error:  # ValueError of an address that is none
        unanswered = isinstance(error, boto.ConnectionError | boto.HTTPClientError)
        if unanswered and not isinstance(error, boto.SSLError):  # a time-out, a reset, nobody there
            raise ConnectionError(str(error)) from error
        raise OSError(str(error)) from error


class Upload(NamedTuple):
    """An upload in pieces that nobody has finished: invisible, but paid for."""

    key: str
    id: str
    begun: datetime


def unfinished_uploads(filesystem: fs.FileSystem, path: str, before: datetime) -> list[Upload]:
    """The uploads below ``path`` (``bucket/prefix``) that began before a time; of a filesystem that is not S3, none.

    Raises:
        OSError: the bucket does not tell.
    """
    if not isinstance(filesystem, fs.S3FileSystem):
        return []
    bucket, _, prefix = path.partition("/")
    with _amazon_errors():
        pages = _amazon_client(filesystem.__reduce__()[1][0], filesystem).get_paginator("list_multipart_uploads")
        uploads = [
            Upload(item["Key"], item["UploadId"], item["Initiated"])
            for page in pages.paginate(Bucket=bucket, Prefix=f"{prefix}/" if prefix else "")
            for item in page.get("Uploads", [])
        ]
    return [upload for upload in uploads if upload.begun < before]


def abort_uploads(filesystem: fs.S3FileSystem, path: str, uploads: Iterable[Upload]) -> None:
    """Throw away what ``unfinished_uploads`` gave for ``path``.

    Raises:
        OSError: the bucket does not allow it.
    """
    with _amazon_errors():
        client = _amazon_client(filesystem.__reduce__()[1][0], filesystem)
        for upload in uploads:
            client.abort_multipart_upload(Bucket=path.partition("/")[0], Key=upload.key, UploadId=upload.id)


def _google(options: dict, _: fs.GcsFileSystem, bucket: str, prefix: str) -> Iterator[Object]:
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import storage
    from google.cloud.storage.retry import DEFAULT_RETRY

    endpoint = address(options)
    try:
        client = storage.Client(
            project=options["project_id"],
            credentials=AnonymousCredentials() if options["anonymous"] else None,
            client_options={"api_endpoint": endpoint} if endpoint else None,
        )
        again = DEFAULT_RETRY.with_timeout(retry.SECONDS)
        fields = "items(name,size,updated),nextPageToken"
        for blob in client.list_blobs(bucket, prefix=prefix, fields=fields, retry=again):
            yield Object(blob.name, blob.size, blob.updated)
    except (GoogleAPIError, GoogleAuthError) as error:
        raise OSError(str(error)) from error


def address(options: dict) -> str | None:
    """Of a server that is not Amazon's or Google's own."""
    host = options["endpoint_override"]
    if not host:  # pyarrow says "" for none, which boto takes for an address
        return None
    return host if "://" in host else f"{options['scheme']}://{host}"
