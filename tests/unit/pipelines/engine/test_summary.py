"""What a run says of itself at its end."""

from __future__ import annotations

import pyarrow as pa

from feature_store import Store
from pipelines.engine.summary import RunSummary, name_current


def test_the_seconds_before_the_first_unit_are_told_apart_from_those_of_the_work():
    summary = RunSummary(called=1000.0)
    report = {"rows": 4, "failed": 1, "bytes": 10, "cpu": 2.0, "done_elsewhere": 0, "retries": 0, "memory": 0}
    report |= {"deferred": [], "failures": []}
    for begun, ended in ((1030.0, 1035.0), (1032.0, 1040.0)):
        summary.add(report | {"begun": begun, "ended": ended})
    numbers = summary.numbers("images")
    assert (numbers["seconds_to_start"], numbers["seconds"], numbers["images_per_second"]) == (30.0, 10.0, 1.0)


def test_what_is_no_longer_listed_is_looked_for_by_a_command_that_can_be_copied():
    summary = RunSummary(not_listed=2, store="my store")
    certify = "`rnncond store certify 'my store' --of photos/ --prune --dry-run`"
    assert certify in (summary.outcome("images", {}, False, source=["photos/"]).hint or "")
    assert "--of IMAGES" in (summary.hint("images", False) or ""), "features of a store: the pictures are not named"
    of_table = "--of 'my table.tsv' --column english --prune --dry-run` lists those of removed sentences. What --text"
    assert of_table in (summary.hint("sentences", False, ["my table.tsv", "--column", "english"]) or "")


def test_a_part_of_a_set_is_promised_to_no_reader_for_whom_another_was_chosen(tmp_path):
    schema = pa.schema([pa.field("image_id", pa.string(), nullable=False)])
    store = Store(tmp_path)
    older, newer = (store.dataset("captions", {"model": name}, schema) for name in "ab")
    for dataset in (older, newer):
        dataset.begin().close()
    name_current(older)
    assert "this one becomes theirs when the command without --limit" in name_current(newer, whole=False)[1]
    store.use(older)
    hint = name_current(newer, whole=False)[1]
    assert "becomes theirs" not in hint and f"rnncond store use {tmp_path} {newer.fingerprint}" in hint
    assert name_current(newer)[0]["current_set"] == older.fingerprint, "as the whole set is not, either"
