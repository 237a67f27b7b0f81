"""A folder in a real S3 server (``bucket``): what counts, and who may write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import boto3
import pytest

from feature_store import term
from feature_store.errors import AnotherWriter
from feature_store.files import Files
from feature_store.ledger import Heartbeat
from pipelines.errors import UserError
from pipelines.files.remote_contents import Contents
from pipelines.files.remote_folder import Damaged, RemoteFolder, below, is_remote
from tests.worlds.bad_storage import BadStorage

pytestmark = [pytest.mark.usefixtures("writers_end"), pytest.mark.heavy]
SHORT = 0.2
"""Seconds between a writer's signs of life."""


@pytest.fixture
def uri(bucket):
    return f"{bucket[0]}/runs/nightly"


@pytest.fixture
def folder(uri):
    return RemoteFolder.at(uri)


@pytest.fixture
def s3(bucket, s3_server):
    return boto3.client("s3", endpoint_url=s3_server)


def keys(s3, uri: str) -> list[str]:
    """Objects below ``uri``, without the marks that pyarrow leaves where a folder was."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])
    return [entry["Key"].removeprefix(f"{prefix}/") for entry in listed if not entry["Key"].endswith("/")]


def test_a_folder_that_nobody_wrote_holds_nothing(folder):
    assert folder.read() is None
    assert folder.name == "nightly"


def test_what_is_committed_is_what_readers_and_the_next_writer_see(folder, s3, uri):
    writer = folder.begin()
    writer.contents.texts["run.json"] = "{}"
    writer.contents.folders["best"] = folder.send("best", {"weights": b"one", "model.json": "ü".encode()})
    assert folder.read() == Contents()
    writer.commit()
    assert folder.read() == writer.contents
    assert folder.get(writer.contents.folders["best"]) == {"weights": b"one", "model.json": "ü".encode()}
    writer.close()
    following = folder.begin()
    assert following.contents == writer.contents
    assert len({key.split("/")[1] for key in keys(s3, uri) if key.startswith("ledger/")}) == 1  # older terms are gone
    following.close()


def test_files_that_a_change_replaces_are_removed_after_it(folder, s3, uri):
    writer = folder.begin()
    for content in (b"one", b"two"):
        writer.contents.folders["best"] = folder.send("best", {"weights": content})
        writer.commit()
    (data,) = [key for key in keys(s3, uri) if key.startswith("data/")]
    assert data == writer.contents.folders["best"]["weights"].path
    writer.close()


def test_what_a_killed_writer_left_is_removed_by_the_next(folder, s3, uri):
    writer = folder.begin()
    writer.contents.folders["best"] = folder.send("best", {"weights": b"one"})
    writer.commit()
    folder.send("last", {"weights": b"never named"})
    writer.close()
    folder.begin().close()
    (data,) = [key for key in keys(s3, uri) if key.startswith("data/")]
    assert data.startswith("data/best-")


def test_a_second_writer_is_refused_while_the_first_lives(folder):
    writer = folder.begin()
    with pytest.raises(AnotherWriter) as caught:
        folder.begin()
    assert f"pid {os.getpid()}" in caught.value.writer
    writer.close()
    folder.begin().close()


def test_of_a_writer_elsewhere_only_its_signs_of_life_tell(folder, monkeypatch):
    monkeypatch.setattr(Heartbeat, "process", lambda self: "unknown")
    writer = folder.begin(interval=SHORT)

    def until_a_beat_is_written(_: float) -> None:
        """However late it comes on a busy machine: the second one begins when the first has been written."""
        for _ in range(2):
            before = writer.term._heartbeat
            while writer.term._thread.is_alive() and writer.term._heartbeat is before:
                time.sleep(0.01)

    monkeypatch.setattr(term, "time", SimpleNamespace(monotonic=time.monotonic, sleep=until_a_beat_is_written))
    with pytest.raises(AnotherWriter):
        folder.begin(interval=SHORT)
    writer.term._stop_beating()
    folder.begin(interval=SHORT).close()


def test_a_writer_that_was_taken_over_from_changes_nothing(folder, monkeypatch):
    """As one that was away for longer than its signs of life allow, and comes back."""
    first = folder.begin()
    monkeypatch.setattr(Heartbeat, "process", lambda self: "gone")
    second = folder.begin()
    second.contents.texts["run.json"] = "second"
    second.commit()
    first.contents.texts["run.json"] = "first"
    first.contents.folders["best"] = folder.send("best", {"weights": b"one"})
    with pytest.raises(UserError, match=r"another writer .* has taken over"):
        first.commit()
    assert folder.read() == second.contents
    second.close()
    first.close()
    assert folder.begin().contents.texts == {"run.json": "second"}


def test_a_commit_between_a_new_term_and_its_base_is_in_the_base_or_refused(folder, monkeypatch):
    first = folder.begin()
    monkeypatch.setattr(Heartbeat, "process", lambda self: "gone")
    read = RemoteFolder.read
    refused = []

    def commit_first(self):
        if not refused:  # the second has shown itself, and has not read what counts
            first.contents.texts["run.json"] = "first"
            with pytest.raises(UserError, match="taken over") as caught:
                first.commit()
            refused.append(caught)
        return read(self)

    monkeypatch.setattr(RemoteFolder, "read", commit_first)
    second = folder.begin()
    assert refused and second.contents == Contents()


def damage(s3, uri: str, path: str, content: bytes | None) -> None:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    place = {"Bucket": bucket, "Key": f"{prefix}/{path}"}
    if content is None:
        s3.delete_object(**place)
    else:
        s3.put_object(**place, Body=content)


@pytest.mark.parametrize(("content", "why"), [(b"onx", "not what was written"), (b"o", "1 bytes"), (None, "is gone")])
def test_damage_is_noticed(folder, s3, uri, tmp_path, content, why):
    writer = folder.begin()
    stored = writer.contents.folders["best"] = folder.send("best", {"weights": b"one"})
    writer.commit()
    damage(s3, uri, stored["weights"].path, content)
    with pytest.raises(Damaged, match=why):
        folder.get(stored)
    with pytest.raises(UserError, match=rf"{uri}/best is damaged: weights.*{why}"):
        folder.fetch("best", tmp_path / "best")
    writer.close()


def test_a_folder_that_is_replaced_while_it_is_fetched_is_fetched_as_it_is_then(folder, tmp_path, monkeypatch):
    writer = folder.begin()
    writer.contents.folders["best"] = folder.send("best", {"weights": b"one"})
    writer.commit()
    copy = RemoteFolder.copy

    def replaced(self, files, target):
        monkeypatch.setattr(RemoteFolder, "copy", copy)
        writer.contents.folders["best"] = folder.send("best", {"weights": b"two", "more": b""})
        writer.commit()
        copy(self, files, target)

    monkeypatch.setattr(RemoteFolder, "copy", replaced)
    folder.fetch("best", tmp_path / "best")
    assert {path.name: path.read_bytes() for path in (tmp_path / "best").iterdir()} == {"weights": b"two", "more": b""}
    writer.close()


def test_a_damaged_or_newer_folder_is_told(folder, s3, uri):
    writer = folder.begin()
    path = f"ledger/{writer.term.handle.term}/folder.json"
    damage(s3, uri, path, b'{"format": 1, "te')
    with pytest.raises(UserError, match=r"folder\.json is damaged"):
        folder.read()
    damage(s3, uri, path, json.dumps({"format": 99}).encode())
    with pytest.raises(UserError, match=r"folder\.json has format 99.*reads up to 1"):
        folder.read()


def test_what_was_replaced_between_its_size_and_its_bytes_is_read_again(folder, monkeypatch):
    writer = folder.begin()
    writer.contents.texts["metrics.jsonl"] = "{}\n" * 100
    writer.commit()
    read, cut = Files.read, []

    def too_short(self, path):
        content = read(self, path)
        if path.endswith("folder.json") and not cut:
            cut.append(content)
            return content[:50]
        return content

    monkeypatch.setattr(Files, "read", too_short)
    assert folder.read() == writer.contents and cut
    writer.close()


def test_a_bucket_that_is_not_there_and_one_that_may_not_be_written(folder, bucket, s3, monkeypatch):
    folder.check_writable()
    with pytest.raises(
        UserError, match=r"Nothing can be written to s3://no-such-bucket-here/run: .*a bucket that exists"
    ):
        RemoteFolder.at("s3://no-such-bucket-here/run").check_writable()

    def denied(self, path):
        raise OSError(f"When opening key '{path}': AWS Error ACCESS_DENIED during PutObject operation: Access Denied")

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"Nothing can be written .* do not allow it"):
        patch.setattr(Files, "_open_remote", denied)
        folder.check_writable()
    with pytest.raises(UserError, match="names no bucket"):
        RemoteFolder.at("s3:///run")
    with pytest.raises(UserError, match="no file system"):
        RemoteFolder.at("nosuch://bucket/run")


def test_requests_that_fail_are_made_again(uri, s3_server, no_pauses):
    with BadStorage(s3_server, 0.2, seed=3) as bad:
        folder = RemoteFolder.at(f"{uri}?endpoint_override={bad.url.removeprefix('http://')}&scheme=http")
        for number in range(5):
            writer = folder.begin()
            writer.contents.texts["run.json"] = str(number)
            writer.contents.folders["last"] = folder.send("last", {"weights": bytes([number]) * 1000})
            writer.commit()
            writer.close()
        contents = folder.read()
        assert contents.texts == {"run.json": "4"}
        assert folder.get(contents.folders["last"]) == {"weights": b"\4" * 1000}
        assert bad.errors > 0


KILLED = """
import itertools, sys
from pipelines.files.remote_contents import Contents
from pipelines.files.remote_folder import RemoteFolder
folder = RemoteFolder.at(sys.argv[1])
writer = folder.begin()
for number in itertools.count(int(writer.contents.texts.get("number", 0)) + 1):
    writer.contents.texts["number"] = str(number)
    writer.contents.folders["last"] = folder.send("last", {"weights": str(number).encode()})
    writer.commit()
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_what_it_committed(uri, folder):
    told = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", KILLED, uri], stdout=subprocess.PIPE, text=True)
        for _ in range(3):
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
        contents = folder.read()
        number = int(contents.texts["number"])
        assert number >= told  # a commit that it did not live to tell of may count, too
        assert folder.get(contents.folders["last"]) == {"weights": str(number).encode()}


def test_places_and_addresses():
    assert is_remote("gs://bucket/run") and not is_remote("runs/nightly")
    assert below("s3://b", "best") == "s3://b/best"
    assert below("file:///mnt/run", "best") == "file:///mnt/run/best"
    assert below("s3://b/run/?region=eu", "best") == "s3://b/run/best?region=eu"
