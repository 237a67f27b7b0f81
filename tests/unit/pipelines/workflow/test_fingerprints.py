"""Fingerprints: equal where nothing has changed, and of much without holding it."""

import os
import random
import tracemalloc

import pytest

from pipelines.files.filesystems import locate
from pipelines.workflow.fingerprints import fingerprint_of, stream_digest
from tests.worlds.remote import put_run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "below").mkdir(parents=True)
    for name in ("a", "b", "below/c"):
        (tmp_path / "in" / name).write_text(name)
    return tmp_path / "in"


@pytest.mark.parametrize("name", ["in", "in/**", "in/*"])
def test_a_folder_and_a_glob_change_with_each_of_their_files(folder, name):
    before = fingerprint_of(name)
    assert fingerprint_of(name) == before is not None
    os.utime(folder / "a", ns=(1, 1))
    touched = fingerprint_of(name)
    (folder / "b").rename(folder / "d")
    renamed = fingerprint_of(name)
    (folder / "d").unlink()
    assert len({before, touched, renamed, fingerprint_of(name)}) == 4


def test_a_link_that_leads_nowhere_hides_no_change(folder):
    (folder / "nowhere").symlink_to("gone")
    before = fingerprint_of("in/*")
    (folder / "e").write_text("e")
    assert None not in (before, fingerprint_of("in/*")) and fingerprint_of("in/*") != before


def test_a_name_with_brackets_is_no_glob_where_it_is_there(folder):
    (folder / "data [v2]").mkdir()
    text = folder / "data [v2]" / "captions.jsonl"
    text.write_text("one")
    before = [fingerprint_of("in/data [v2]"), fingerprint_of("in/data [v2]/captions.jsonl")]
    text.write_text("other")
    after = [fingerprint_of("in/data [v2]"), fingerprint_of("in/data [v2]/captions.jsonl")]
    assert None not in before + after and before[0] != after[0] and before[1] != after[1]


def test_a_glob_in_a_uri_changes_with_its_files(folder, bucket):
    for uri in (folder.as_uri(), f"{bucket[0]}/photos"):
        filesystem, path = locate(uri)
        for count, name in enumerate(("1.jpg", "2.jpg", "notes.txt")):
            filesystem.create_dir(path)
            with filesystem.open_output_stream(f"{path}/{name}") as file:
                file.write(name.encode())
            found = fingerprint_of(f"{uri}/*.jpg")
            assert found is not None and found.startswith(f"{min(count + 1, 2)}-")


def test_nothing_is_none(folder):
    for name in ("nowhere", "nowhere/*", "{uniform: [0, 1]}", "0010", "", "a\0b", "models:/x/1"):
        assert fingerprint_of(name) is None if name else True


def test_home_is_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert fingerprint_of("~/a") == fingerprint_of("in/a") is not None
    assert fingerprint_of("~/*") is not None


def test_a_digest_is_the_same_in_any_order_and_counts_twins():
    entries = [(f"file {index}", index, None) for index in range(100)]
    mixed = random.Random(1).sample(entries, len(entries))
    assert stream_digest(entries) == stream_digest(iter(mixed))
    assert len({stream_digest(entries), stream_digest(entries[1:]), stream_digest([*entries, entries[0]])}) == 3
    assert stream_digest([]) == f"0-{0:064x}"


@pytest.mark.heavy
def test_many_files_take_no_more_memory_than_a_thousand():
    def peak(count: int) -> int:
        tracemalloc.start()
        stream_digest((f"photograph-{index:09d}.jpg", "5-7", None) for index in range(count))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # Their names alone would be 2.5 MB; other threads of this process may take some of the rest.
    assert peak(40_000) < peak(1_000) + 1_000_000


@pytest.mark.heavy
def test_a_run_in_object_storage_is_its_models(bucket, folder):
    uri = f"{bucket[0]}/run"
    (folder / "best").mkdir()
    (folder / "best" / "weights").write_bytes(b"one")
    put_run(folder, uri)
    before = fingerprint_of(uri)
    (folder / "run.json").write_text("{}")
    put_run(folder, uri)  # other files, of the same content
    assert fingerprint_of(uri) == before and before.keys() == {"best"}
    (folder / "best" / "weights").write_bytes(b"two")
    put_run(folder, uri)
    assert fingerprint_of(uri) != before
