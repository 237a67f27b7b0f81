"""The addresses that are asked of Amazon and Google themselves, without a request."""

from datetime import timedelta

import botocore.client
import pytest
from google.cloud import storage
from pyarrow import fs

from pipelines.files.buckets import objects


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)


def amazon(**options) -> fs.S3FileSystem:
    return fs.S3FileSystem(region="eu-west-1", access_key="key", secret_key="secret", **options)


def test_a_bucket_of_amazon_is_asked_for_at_amazon(monkeypatch):
    asked = []

    def call(self, operation, arguments):
        asked.append((self.meta.endpoint_url, operation, arguments))
        return {}

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    assert list(objects(amazon(), "bucket/p")) == []
    ((address, operation, arguments),) = asked
    assert (address, operation) == ("https://s3.eu-west-1.amazonaws.com", "ListObjectsV2")
    assert arguments["Bucket"] == "bucket" and arguments["Prefix"] == "p/"


def test_a_bucket_of_google_is_asked_for_at_google(monkeypatch):
    asked = []

    def blobs(self, bucket, prefix, **_):
        asked.append((self._connection.API_BASE_URL, bucket, prefix))
        return []

    monkeypatch.setattr(storage.Client, "list_blobs", blobs)
    google = fs.GcsFileSystem(anonymous=True, retry_time_limit=timedelta(seconds=30))
    assert list(objects(google, "bucket/p")) == []
    assert asked == [("https://storage.googleapis.com", "bucket", "p/")]


def test_an_address_that_is_none_says_so():
    with pytest.raises(OSError, match="no_host"):
        list(objects(amazon(endpoint_override="no_host:x y"), "bucket"))
