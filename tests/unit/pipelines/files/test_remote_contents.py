import json

import pytest

from pipelines.errors import UserError
from pipelines.files.remote_contents import Contents, StoredFile, read_texts


def test_what_was_written_is_read():
    model = {"weights": StoredFile("data/best-1/weights", 3, "abc")}
    contents = Contents({"run.json": "\u2028ü\n"}, {"best": model, "last": model})
    assert Contents.from_json(contents.to_json(), "here") == contents
    assert contents.data() == {"data/best-1"}
    assert Contents.from_json(Contents().to_json(), "here") == Contents()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format": 1}', b'{"format": 1, "texts": {}, "folders": {"best": {"w": {"path": "x"}}}}']
)
def test_damage_is_told(content):
    with pytest.raises(UserError, match=r"folder\.json is damaged: .* Put back a copy of it"):
        Contents.from_json(content, "folder.json")


def test_a_newer_format_is_refused():
    with pytest.raises(UserError, match="has format 2; this version of rnncond reads up to 1"):
        Contents.from_json(json.dumps({"format": 2, "texts": 1}).encode(), "folder.json")


def test_texts_of_a_working_copy_are_those_of_storage(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    Contents({"run.json": "{}"}).write_texts(tmp_path)
    assert read_texts(tmp_path) == {"run.json": "{}"}
    assert (tmp_path / "notes.txt").exists()
