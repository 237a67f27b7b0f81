"""The addresses that are asked of Amazon and Google themselves, without a request."""

from datetime import UTC, datetime, timedelta

import botocore.client
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from google.cloud import storage
from pyarrow import fs

from feature_store import retry
from feature_store.errors import ErrorClass, classify
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


THROTTLED = ClientError({"Error": {"Code": "SlowDown", "Message": "Please reduce your request rate."}}, "ListObjectsV2")
SILENT = ReadTimeoutError(endpoint_url="https://s3.eu-west-1.amazonaws.com")


class Bucket:
    """Two pages of one object each. Each request fails ``failures`` times before it is answered."""

    def __init__(self, error: Exception, failures: int) -> None:
        self.error, self.failures, self.left, self.requests = error, failures, failures, 0

    def call(self, operation, arguments):
        self.requests += 1
        if self.left:
            self.left -= 1
            raise self.error
        self.left = self.failures
        page = int(arguments.get("ContinuationToken", 0))
        item = {"Key": f"{page}.jpg", "Size": 1, "LastModified": datetime(2026, 11, 28, tzinfo=UTC)}
        return {"Contents": [item], "IsTruncated": page == 0, "NextContinuationToken": "1"}


def listed_of(bucket: Bucket, monkeypatch) -> list[str]:
    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", lambda _, *asked: bucket.call(*asked))
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0)
    return [found.key for found in objects(amazon(), "bucket")]


@pytest.mark.parametrize("error", [THROTTLED, SILENT], ids=["throttled", "no answer"])
def test_each_page_is_asked_for_again_while_storage_is_ill(monkeypatch, error):
    bucket = Bucket(error, failures=20)
    with retry.retrying_for(1e9):
        assert listed_of(bucket, monkeypatch) == ["0.jpg", "1.jpg"]
    assert bucket.requests == 2 * 21


@pytest.mark.parametrize("error", [THROTTLED, SILENT], ids=["throttled", "no answer"])
def test_a_page_is_asked_for_no_longer_than_the_budget_says(monkeypatch, error):
    bucket = Bucket(error, failures=20)
    with retry.retrying_for(-1), pytest.raises(OSError) as raised:
        listed_of(bucket, monkeypatch)
    assert bucket.requests == 1
    assert classify(raised.value) is ErrorClass.STORAGE
