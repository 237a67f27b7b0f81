"""The class of every error of storage, from what the clients really say."""

import errno
import os

import pytest

from feature_store.errors import ErrorClass, StorageFault, StoreError, cause_of, classify, explained

OBJECT, DENIED, ACCOUNT, STORAGE = ErrorClass

SAID = {
    STORAGE: [
        "When reading information for key 'a.jpg' in bucket 'b': AWS Error SLOW_DOWN during HeadObject operation: "
        "Please reduce your request rate.",
        "AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body.",
        "AWS Error UNKNOWN (HTTP status 500) during GetObject operation: We encountered an internal error.",
        "AWS Error UNKNOWN (HTTP status 429) during GetObject operation: ",
        "AWS Error INTERNAL_FAILURE during GetObject operation: We encountered an internal error. Please try again.",
        "AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7, Could not connect to server",
        "AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 56, Failure when receiving data",
        "AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 28, Timeout was reached",
        "google::cloud::Status(UNAVAILABLE: Permanent error, with a last message of ...",
        "google::cloud::Status(RESOURCE_EXHAUSTED: rate of changes exceeded)",
        "An error occurred (SlowDown) when calling the ListObjectsV2 operation: Please reduce your request rate.",
        "Server disconnected",
    ],
    ACCOUNT: [
        "AWS Error UNKNOWN (HTTP status 400) during GetObject operation: ExpiredToken",
        "AWS Error UNKNOWN (HTTP status 400) during HeadObject operation: No response body.",
        "AWS Error INVALID_ACCESS_KEY_ID during GetObject operation: The key does not exist",
        "AWS Error SIGNATURE_DOES_NOT_MATCH during",
        "AWS Error INVALID_CLIENT_TOKEN_ID during",
        "google::cloud::Status(UNAUTHENTICATED: ...",
        "Unable to locate credentials",
    ],
    DENIED: [
        "AWS Error ACCESS_DENIED during HeadObject operation: No response body.",
        "AWS Error UNKNOWN (HTTP status 403) during GetObject operation: ",
        "PERMISSION_DENIED: does not have storage.objects.get access",
    ],
    OBJECT: [
        "no such file",
        "the file ends 3 bytes before the end of this member",
        "[Errno 13] Failed to open local file 'a.jpg'. Detail: [errno 13] Permission denied",
    ],
}


@pytest.mark.parametrize(("kind", "said"), [(kind, said) for kind, some in SAID.items() for said in some])
def test_what_clients_say(kind, said):
    assert classify(OSError(said)) is kind
    assert classify(said) is kind


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.ESTALE, errno.ECONNRESET, errno.EIO, errno.EMFILE])
def test_what_systems_say(number):
    assert classify(OSError(number, os.strerror(number))) is STORAGE
    assert classify(f"[Errno {number}] Cannot read 'x'") is STORAGE


def test_numbers_of_http_on_errors_of_any_client():
    class ClientError(Exception):
        status = 503

    assert classify(ClientError("went wrong")) is STORAGE
    ClientError.status = 403
    assert classify(ClientError("went wrong")) is DENIED


@pytest.mark.parametrize("name", ["Expired contracts/x.jpg", "UNAVAILABLE.tar", "SlowDown/Forbidden.jpg"])
def test_names_are_no_signs(name):
    assert classify(f"[Errno 2] no such file '{name}'", [name]) is OBJECT
    assert classify(f"AWS Error SLOW_DOWN for key '{name}'", [name]) is STORAGE


def test_a_passing_error_of_a_store_has_exit_code_4_and_another_2():
    with pytest.raises(StorageFault, match="later") as raised, explained("Writing alive.json"):
        raise OSError("AWS Error SLOW_DOWN during PutObject operation: Please reduce your request rate.")
    assert raised.value.code == 4
    for said in ("AWS Error ACCESS_DENIED during", "ExpiredToken", "disk"):
        with pytest.raises(StoreError) as raised, explained("Writing alive.json"):
            raise OSError(said)
        assert raised.value.code == 2


def test_expired_credentials_are_told_as_such_also_by_a_head_without_a_reason():
    for said in (SAID[ACCOUNT][0], SAID[ACCOUNT][1]):
        assert cause_of(OSError(said)).startswith("the credentials are missing, have expired or do not allow it")
