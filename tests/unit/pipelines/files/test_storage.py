"""Files of a storage that stumbles, and what its errors mean to a run."""

import gzip
import io
from types import SimpleNamespace

import pytest

from feature_store import retry
from pipelines.errors import Fault, UserError, exit_code
from pipelines.files.storage import AgainReader, as_user_error, names_in, open_stream

SLOW = OSError("AWS Error SLOW_DOWN during GetObject operation: Please reduce your request rate.")


class Stumbling:
    """A filesystem with one file, of which every third request is refused."""

    def __init__(self, content: bytes) -> None:
        self.content, self.requests, self.opened = content, 0, 0

    def request(self) -> None:
        self.requests += 1
        if self.requests % 3 == 0:
            raise SLOW

    def open_input_file(self, path):
        self.request()
        self.opened += 1
        return SimpleNamespace(size=lambda: len(self.content), read_at=self.read_at)

    def read_at(self, size, position):
        self.request()
        return self.content[position : position + size]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: 0.0)


def test_a_file_is_read_whole_past_refused_requests():
    content = bytes(range(256)) * 100
    storage = Stumbling(content)
    reader = AgainReader(storage, "x")
    assert io.BufferedReader(reader, 1000).read() == content
    assert storage.opened > 3  # anew after each
    assert reader.seek(-3, io.SEEK_END) == len(content) - 3
    assert reader.read() == content[-3:]
    assert reader.read() == b""


def test_packed_text_is_unpacked_past_refused_requests():
    content = b"".join(b"%d\n" % number for number in range(200_000))
    with open_stream(Stumbling(gzip.compress(content)), "x.gz", "gzip") as stream:
        assert io.BufferedReader(stream).read() == content


def test_what_stays_refused_is_raised(monkeypatch):
    monkeypatch.setattr(retry, "SECONDS", -1.0)
    storage = Stumbling(b"abc")
    storage.requests = 2
    with pytest.raises(OSError, match="SLOW_DOWN"):
        AgainReader(storage, "x")


def test_a_passing_error_is_a_fault_of_exit_code_4():
    assert exit_code(as_user_error("Cannot list x", SLOW)) == 4
    assert isinstance(as_user_error("Cannot list x", SLOW), Fault)
    denied = as_user_error("Cannot list x", OSError("AWS Error ACCESS_DENIED"))
    assert type(denied) is UserError and exit_code(denied) == 2


def test_the_names_of_a_member_are_those_of_its_file():
    assert "/data/a.tar" in names_in("bytes://0+5::/data/a.tar")
    assert {"bucket/p/x.jpg", "'p/x.jpg'"} <= set(names_in("s3://bucket/p/x.jpg?region=eu-west-1"))
