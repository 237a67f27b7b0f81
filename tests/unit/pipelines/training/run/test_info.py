import json

import pytest

from pipelines.errors import UserError
from pipelines.training.run.info import SCHEMA, read_run


def test_no_run_json_is_no_run(tmp_path):
    assert read_run(tmp_path) == {}


@pytest.mark.parametrize(
    "content",
    [b'{"status": "fini', b"[]", b"\xff\xfe", b"", b"[" * 100_000],
    ids=["cut", "list", "bytes", "empty", "deep"],
)
def test_a_damaged_run_json_is_told(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json is damaged.*--restart"):
        read_run(tmp_path)


def test_a_run_of_0_1_0_is_read_and_one_of_a_newer_version_is_refused(tmp_path):
    info = {"status": "finished", "versions": {"rnncond": "0.1.0"}, "data_id": "x"}
    (tmp_path / "run.json").write_text(json.dumps(info))
    assert read_run(tmp_path) == info
    (tmp_path / "run.json").write_text(json.dumps(info | {"schema": SCHEMA + 1, "versions": {"rnncond": "9.0"}}))
    with pytest.raises(UserError, match=rf"has schema {SCHEMA + 1}, written by rnncond 9.0; .*up to {SCHEMA}"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": "new"}')
    with pytest.raises(UserError, match="has schema 'new', written by another version of rnncond"):
        read_run(tmp_path)
