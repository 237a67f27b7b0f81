"""``rnncond store``: what its user sees, and the exit codes."""

from __future__ import annotations

import pyarrow as pa
import pytest

from feature_store import Store, failure_schema
from pipelines.engine.resume import Pending
from pipelines.engine.summary import RunSummary
from pipelines.inputs.listing_formats import SCHEMA as LISTING

SCHEMA = pa.schema([pa.field("image_id", pa.string(), nullable=False)])


def fill(root, **recipe):
    made = Store(root).dataset("features", {"backbone": "drawn", **recipe}, SCHEMA)
    with made.begin() as term:
        for start in range(0, 30, 10):
            rows = pa.table([[f"{number:03d}" for number in range(start, start + 10)]], schema=SCHEMA)
            failed = {"image_id": f"x{start}", "uri": "u", "stage": "read", "reason": "r", "tries": 1}
            term.handle.commit(f"part-{start}", rows, pa.Table.from_pylist([failed], failure_schema()))
    return made


def test_info_of_one_set(tmp_path, rnncond):
    made = fill(tmp_path / "s")
    code, found, shown = rnncond("store", "info", tmp_path / "s")
    assert code == 0 and found["fingerprint"] == made.fingerprint and found["recipe.backbone"] == "drawn"
    assert (found["rows"], found["failed_inputs"], found["parts"], found["writer"]) == (30, 3, 3, "none")
    assert found["bytes"] == sum(path.stat().st_size for path in tmp_path.rglob("[pf]*/*.parquet"))
    assert found["mean_part_bytes"] == found["bytes"] // 3
    assert "recipe.backbone" in shown and "drawn" in shown


def test_info_tells_who_is_writing(tmp_path, rnncond):
    made = fill(tmp_path / "s")
    with made.begin():
        code, found, _ = rnncond("store", "info", tmp_path / "s")
        assert (
            code == 0
            and found["writer"].startswith(f"host {made.writer().host}, pid")
            and "dead" not in found["writer"]
        )
        for verb in ("compact", "vacuum"):
            code, found, shown = rnncond("store", verb, tmp_path / "s")
            assert code == 2 and "another writer is at work" in found["error"] and "--takeover" in shown
        assert rnncond("store", "vacuum", tmp_path / "s", "--takeover")[0] == 0


def test_several_sets(tmp_path, rnncond):
    first, second = fill(tmp_path / "s"), fill(tmp_path / "s", dtype="float16")
    code, found, shown = rnncond("store", "info", tmp_path / "s")
    assert code == 0 and found["sets"] == 2 and "--set FINGERPRINT" in shown
    assert found[first.fingerprint].startswith("features: 30 rows, 3 failed, 3 parts")
    code, found, _ = rnncond("store", "info", tmp_path / "s", "--set", second.fingerprint[:8])
    assert code == 0 and found["recipe.dtype"] == "float16"
    assert rnncond("store", "verify", tmp_path / "s")[1]["rows"] == 60


def test_verify_names_damage_and_drops_it(tmp_path, rnncond):
    made = fill(tmp_path / "s")
    assert rnncond("store", "verify", tmp_path / "s")[0] == 0
    part = made.snapshot().parts[1]
    damaged = tmp_path / "s" / made.folder / part.path
    damaged.write_bytes(damaged.read_bytes()[:-1])
    code, found, shown = rnncond("store", "verify", tmp_path / "s")
    assert code == 3 and found["failed"] == found["damaged_parts"] == 1
    assert part.name in shown and "--drop" in shown
    code, found, shown = rnncond("store", "verify", tmp_path / "s", "--drop")
    assert code == 3 and found["dropped_parts"] == 1 and "--retry-failed" not in shown
    code, found, _ = rnncond("store", "verify", tmp_path / "s")
    assert code == 0 and (found["parts"], found["rows"]) == (3, 20)


def test_the_hint_says_how_a_dropped_input_that_had_failed_is_computed(tmp_path, rnncond):
    made = fill(tmp_path / "s")
    with made.begin() as term:
        term.handle.commit("later", pa.table([["x0"]], schema=SCHEMA))
    damaged = made.snapshot().parts[-1]
    (tmp_path / "s" / made.folder / damaged.path).unlink()
    shown = rnncond("store", "verify", tmp_path / "s", "--drop")[2]
    assert "again with --retry-failed" in shown
    listed = [pa.table([["000", "x0", "x10"], ["u"] * 3, [None] * 3, [None] * 3], schema=LISTING)]
    computed = Pending(made.snapshot(), RunSummary(), retry_failed=True).chunks(listed)
    assert "x0" in [id_ for chunk in computed for id_ in chunk[0].to_pylist()]


def test_compact_then_vacuum(tmp_path, rnncond):
    made = fill(tmp_path / "s")
    code, found, _ = rnncond("store", "compact", tmp_path / "s")
    assert code == 0 and (found["parts_before"], found["parts_after"]) == (3, 1)
    assert found["bytes_after"] < found["bytes_before"]
    before = sorted(tmp_path.rglob("*"))
    code, found, shown = rnncond("store", "vacuum", tmp_path / "s", "--grace-hours", 0, "--dry-run")
    assert code == 0 and found["files"] == 6 and "parts/part-0" in shown and sorted(tmp_path.rglob("*")) == before
    code, found, _ = rnncond("store", "vacuum", tmp_path / "s", "--grace-hours", 0)
    assert code == 0 and found["files"] == 6 and len([*tmp_path.rglob("[pf]*/*.parquet")]) == 2
    assert made.snapshot().rows == 30


@pytest.mark.parametrize("verb", ["info", "verify", "compact", "vacuum"])
def test_no_store_is_a_mistake_that_is_told(tmp_path, rnncond, verb):
    code, found, _ = rnncond("store", verb, tmp_path / "nothing")
    assert code == 2 and "no store at" in found["error"] and "nothing is there" in found["error"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"), [((), "Missing command"), (("inf",), "Did you mean"), (("info", "--sett"), "No such option")]
)
def test_a_wrong_command_line_is_told_without_a_traceback(rnncond, arguments, said):
    code, found, shown = rnncond("store", *arguments)
    assert code == 2 and said in found["error"] and "Traceback" not in shown and "--help" in shown
