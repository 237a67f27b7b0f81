"""pipeline.json: its versions, and what it says of a stage."""

import json

import pytest

from pipelines.config.yaml_core import Written
from pipelines.errors import UserError
from pipelines.workflow.fingerprints import digest
from pipelines.workflow.pipeline_file import Stage
from pipelines.workflow.state import PipelineState, StageEntry, locked, read_state, reads, writes


def stage(name: str, needs=(), **args) -> Stage:
    return Stage(name, "evaluate", None, args, [], [args["out"]] if "out" in args else [], list(needs), [])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finish(state: PipelineState, done: Stage) -> None:
    state.begin(done, True)
    entry = StageEntry(status="done", inputs=reads(done), outputs=writes(done, {}), failed=0, failures=[])
    state.keep(done, entry)


def test_a_stage_is_up_to_date_until_something_of_it_changes(folder):
    (folder / "in").write_text("x")
    first, second = stage("first", out="a", data="in", beam=Written("0010")), stage("second", ["first"], out="b")
    with locked(folder) as state:
        assert state.why(first) == "not done yet"
        (folder / "a").write_text("y")
        finish(state, first)
        finish(state, second)
        assert (state.why(first), state.why(second)) == ("", "")
    again = PipelineState(folder)
    assert (again.why(first), again.why(second)) == ("", "")
    assert again.why(stage("first", out="a", data="in", beam=Written("8"))) == "its arguments have changed"
    (folder / "a").write_text("other")
    assert again.why(first) == "a is not as it was left"
    (folder / "in").write_text("other")
    assert again.why(first) == "in changed"


def version_1(folder) -> None:
    """As rnncond 0.1.0 wrote it, from YAML in which numbers were numbers."""
    first = {"verb": "evaluate", "args": {"out": "a", "beam": 2, "cased": True, "x": [0.5, "t"]}, "needs": {}}
    first |= {"inputs": {}, "outputs": {}, "status": "done", "failed": 0, "failures": []}
    made = digest([first[part] for part in ("args", "needs", "inputs", "outputs")])
    second = first | {"args": {"out": "b"}, "needs": {"first": made}}
    (folder / "pipeline.json").write_text(json.dumps({"first": first, "second": second}))


def test_the_file_of_the_version_before_is_read_and_its_stages_stay_done(folder):
    version_1(folder)
    state = PipelineState(folder)
    first = stage("first", out="a", beam=Written("2"), cased=True, x=[Written("0.5"), "t"])
    assert (state.why(first), state.why(stage("second", ["first"], out="b"))) == ("", "")
    state.write()
    content = json.loads((folder / "pipeline.json").read_text())
    assert content["schema"] == 2 and set(content["stages"]) == {"first", "second"}
    assert read_state(folder / "pipeline.json") == state.entries


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged: found list, expected an object"),
        ('{"schema": 9, "stages": {}}', "has schema 9; this version of rnncond reads 1 and 2"),
        ('{"schema": 2}', "is damaged: expected a status for each stage"),
        ('{"train": {"args": {}}}', "is damaged: expected a status for each stage"),
        ('{"schema": 2, "stages": {"a": 3}}', "is damaged: expected a status for each stage"),
    ],
)
def test_what_cannot_be_read_says_what_was_found_and_expected(folder, content, message):
    (folder / "pipeline.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_state(folder / "pipeline.json")


def test_a_stage_may_be_called_schema(folder):
    (folder / "pipeline.json").write_text('{"schema": {"status": "begun", "args": {"out": 3}}}')
    assert read_state(folder / "pipeline.json") == {"schema": {"status": "begun", "args": {"out": "3"}}}


def test_a_stage_that_never_began_leaves_what_was_known(folder):
    state = PipelineState(folder)
    for before in (None, StageEntry(status="done", args={"out": "a"})):
        if before:
            state.entries["first"] = before
        state.begin(stage("first", out="b"), False)
        assert state.entries["first"]["status"] == "begun"
        state.forget(stage("first"), before)
        assert PipelineState(folder).entries == ({"first": before} if before else {})


def test_two_at_once_are_refused(folder):
    with locked(folder), pytest.raises(UserError, match="is being run already"), locked(folder):
        pass


def test_a_state_in_object_storage_is_one_run_s_at_a_time_and_stays(bucket, folder):
    uri = f"{bucket[0]}/nightly"
    (folder / "in").write_text("x")
    first = stage("first", out="a", data="in")
    with locked(uri) as state:
        (folder / "a").write_text("y")
        finish(state, first)
        with pytest.raises(UserError, match=r"is being run already, in s3://.* \(host .*, pid"), locked(uri):
            pass
    with locked(uri) as again:
        assert again.why(first) == ""
