"""Files as they were."""

from __future__ import annotations

import hashlib

from pipelines.files.digests import changes, digest_of


def test_a_file_that_moved_is_the_same_and_one_that_changed_is_not(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"one\n")
    new.write_bytes(b"one\n")
    before, moved = digest_of(str(old)), digest_of(str(new))
    assert before == {"path": str(old), "bytes": 4, "sha256": hashlib.sha256(b"one\n").hexdigest()}
    assert changes({"data.source": before}, {"data.source": moved}) == []
    new.write_bytes(b"two!\n")
    (line,) = changes({"data.source": before}, {"data.source": digest_of(str(new)), "data.target": moved})
    assert line.startswith(f"data.source: was {old} of 4 bytes") and f"is {new} of 5 bytes" in line


def test_what_is_no_file_is_left_to_its_reader(tmp_path):
    assert digest_of(str(tmp_path)) is None and digest_of(str(tmp_path / "nothing")) is None
