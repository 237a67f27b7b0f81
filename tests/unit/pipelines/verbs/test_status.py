"""``rnncond status``: what the ledger and the folders of runs say, while somebody is at work and after."""

from __future__ import annotations

import json
import os

import pytest

from feature_store import Store
from feature_store.parts import Part
from pipelines.files.atomic import FolderLock
from pipelines.files.remote_folder import RemoteFolder
from pipelines.training.run.info import Preparation, RunPlace
from pipelines.training.run.remote import RemoteRun
from pipelines.verbs import status
from tests.worlds.command import rnncond
from tests.worlds.feature_rows import commit, dataset, ids
from tests.worlds.nodes import await_


def state(capsys, *words) -> dict:
    code = rnncond("status", *words, "--json")
    out = capsys.readouterr().out
    assert code == 0
    return json.loads(out.splitlines()[-1])


def test_a_store_while_somebody_is_at_work_and_after(tmp_path, capsys):
    made = dataset(Store(tmp_path / "s"))
    with made.begin() as term:
        commit(term, ids(0, 30), ["x"])
        found = state(capsys, tmp_path / "s", "--total", 100)
        assert (found["done"], found["failed_inputs"], found["left"], found["at_work"]) == (30, 1, 69, True)
        assert found["writer"] == made.writer().describe() and found["per_second"] > 0 and "time_left" in found
    found = state(capsys, tmp_path / "s", "--total", 100)
    assert (found["at_work"], found["left"]) == (False, 69) and "writer" not in found and "time_left" not in found
    assert found["last_sign_of_life"].endswith("s ago")
    assert "left" not in state(capsys, tmp_path / "s"), "which this writer never knew"
    commit_other = dataset(Store(tmp_path / "s"), backbone="other")
    commit_other.begin().close()
    assert state(capsys, tmp_path / "s")["sets"] == 2


def test_what_is_left_is_in_the_ledger(tmp_path, capsys):
    made = dataset(Store(tmp_path / "s"))
    with made.begin() as term:
        commit(term, ids(0, 30), ["x"])
        term.to_do = 40
    assert state(capsys, tmp_path / "s")["left"] == 9, "of a run that was broken off"
    with made.begin(heartbeat=0.05) as term:
        term.to_do = 10
        await_(lambda: made.left() == 10)
        commit(term, ids(30, 33))
        found = state(capsys, tmp_path / "s")
        assert found["left"] == 7, "whatever was told before the three were committed"
        assert found["at_work"] and "time_left" in found
        assert state(capsys, tmp_path / "s", "--total", 100)["left"] == 66
        dataset(Store(tmp_path / "s"), backbone="other").begin().close()
        assert ", 7 left" in state(capsys, tmp_path / "s")[made.fingerprint]


def test_the_set_that_readers_get_is_said(tmp_path, capsys):
    store = Store(tmp_path / "s")
    older, newer = dataset(store), dataset(store, backbone="other")
    for made in (older, newer):
        with made.begin() as term:
            commit(term, ids(0, 3))
        store.completed(made)
    assert ", current" in state(capsys, tmp_path / "s")[newer.fingerprint]
    store.use(older)
    states = state(capsys, tmp_path / "s")
    assert ", current, pinned by `rnncond store use`" in states[older.fingerprint]
    assert "current" not in states[newer.fingerprint]


def test_a_set_that_is_alone_is_what_readers_get(tmp_path, capsys):
    made = dataset(Store(tmp_path / "s"))
    with made.begin() as term:
        commit(term, ids(0, 3))
    assert state(capsys, tmp_path / "s")["current"] == "yes, the only one"
    with dataset(Store(tmp_path / "s"), backbone="other").begin() as term:
        commit(term, ids(0, 3))
    assert "current" not in str(state(capsys, tmp_path / "s"))


def test_the_file_of_a_pipeline_is_no_folder(tmp_path, capsys):
    (tmp_path / "nightly.yaml").write_text("stages: {}")
    assert rnncond("status", tmp_path / "nightly.yaml") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "A pipeline's folder is `out` of its file, or pipeline: rnncond status pipeline" in told


def test_a_writer_that_died_is_said(tmp_path, capsys, monkeypatch):
    made = dataset(Store(tmp_path / "s"))
    term = made.begin()
    term._stop_beating()
    monkeypatch.setattr("feature_store.ledger.process_start", lambda pid: "")  # of a process that is gone
    found = state(capsys, tmp_path / "s")
    assert not found["at_work"] and "no longer alive; run its command again" in found["writer"]


def test_the_rate_is_of_what_was_committed_of_late():
    def part(time: float, rows: int, replaces: tuple[str, ...] = ()) -> Part:
        return Part(f"{time}", 1, "", rows, 1, 0, "", 0, "", "", "", (), time, replaces)

    parts = [part(10, 99), part(2000, 299), part(2300, 299), part(2400, 500, ("10",))]
    assert status.rate_of(parts, 0, 2500) == 600 / 600
    assert status.rate_of(parts, 2250, 2500) == 300 / 250
    assert status.rate_of(parts, 2250, 2500, working_since=2290) == 300 / 10, "what is under way will be committed"


def test_runs_searches_and_pipelines(tmp_path, capsys):
    run = tmp_path / "run"
    (run / "trials/00001").mkdir(parents=True)
    times = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:01:00+00:00"}  # before it was resumed
    (run / "run.json").write_text(json.dumps({"status": "running", **times}))
    (run / "recipe.yaml").write_text("training: {epochs: 5, early_stopping: {metric: CIDEr}}")
    lines = [
        {"epoch": epoch, "train_loss": 1.0 / epoch, "seconds": 2.0, "val_loss": 1.0, "CIDEr": 9 - epoch}
        for epoch in (1, 2)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with FolderLock(run):
        found = state(capsys, run)
    assert (found["status"], found["epochs"], found["train_loss"], found["seconds_an_epoch"]) == (
        "running",
        2,
        0.5,
        2.0,
    )
    expected = {"CIDEr": 7, "best_epoch": 1, "best_CIDEr": 8, "epochs_left": 3, "time_left": "6 s"}
    assert expected.items() <= found.items()
    assert "ended" not in found
    gone = state(capsys, run)
    assert gone["ended"] == times["ended"] and gone["last_sign_of_life"].endswith(" s ago"), "it was resumed since"
    (run / "run.json").write_text(json.dumps({"status": "finished", **times}))
    (run / "report.html").touch()
    assert state(capsys, run)["last_sign_of_life"].endswith(" h ago"), "whoever makes a page does not train"
    assert rnncond("status", tmp_path) == 2
    assert f"There is work in {run}." in " ".join(capsys.readouterr().err.split())
    (run / "run.json").write_text('{"status": "running", "search": "tpe"}')
    (run / "trials/00001/run.json").write_text('{"status": "finished"}')
    assert state(capsys, run)["trials_finished"] == 1
    for score in (2, 3, 1):
        trial = run / f"trials/00{score}"
        trial.mkdir()
        (trial / "run.json").write_text(json.dumps({"status": "running", "params": {"model.hidden": 16 * score}}))
        line = {"epoch": score, "val_loss": score, "CIDEr": score}
        (trial / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    space = "space: {model.hidden: {uniform: [16, 96], step: 16}}"
    for metric, best, trials, to_begin in (
        ("CIDEr", 3, "trials: 6", 2),
        ("loss", 1, "algorithm: grid", 2),
        ("loss", 1, "trials: 2", 0),  # fewer than have begun
    ):
        section = f"training:\n  early_stopping:\n    metric: {metric}\ntune:\n  {trials}\n  {space}\n"
        (run / "search.yaml").write_text(section)
        expected = {"best_trial": f"00{best}", f"best_{metric}": best, "model.hidden": 16 * best}
        expected |= {"trials_to_begin": to_begin, "epochs_of_all_trials": 6}
        assert expected.items() <= state(capsys, run).items()
    pipeline = tmp_path / "pipeline"
    pipeline.mkdir()
    stages = {"caption": {"status": "done", "ended": "2026-01-01T00:00:00+00:00"}, "report": {"status": "failed"}}
    (pipeline / "pipeline.json").write_text(json.dumps({"schema": 2, "stages": stages}))
    found = state(capsys, pipeline)
    assert found["caption"].startswith("done, ") and found["report"] == "failed" and "failed_inputs" not in found
    stages["caption"]["failed"] = 2
    (pipeline / "pipeline.json").write_text(json.dumps({"schema": 2, "stages": stages}))
    found = state(capsys, pipeline)
    assert found["caption"].startswith("done, 2 of its inputs failed, ") and found["failed_inputs"] == 2


def test_a_run_in_object_storage_is_at_work_while_its_writer_lives(bucket, tmp_path, capsys, monkeypatch):
    uri = f"{bucket[0]}/run"
    run = RemoteRun(tmp_path / "working", RemoteFolder.at(uri))
    run.open("training: {epochs: 5, early_stopping: {metric: CIDEr}}\n", {})
    run.epoch({"epoch": 1, "train_loss": 0.5, "seconds": 2.0}, [])
    run.commit()
    found = state(capsys, uri)
    assert (found["run"], found["status"], found["epochs"]) == (uri, "running", 1)
    assert f"pid {os.getpid()}" in found["writer"] and "no longer alive" not in found["writer"]
    with monkeypatch.context() as patch:
        patch.setattr("feature_store.ledger.process_start", lambda pid: "")
        assert "no longer alive; run its command again" in state(capsys, uri)["writer"]
    run.update(status="finished")
    run.close()
    assert state(capsys, uri)["status"] == "finished" and "writer" not in state(capsys, uri)
    assert rnncond("status", f"{bucket[0]}/nothing") == 2


def test_what_was_killed_is_not_at_work_for_ever(tmp_path):
    """Its files say that it runs, and will say so for ever; its lock went with its process."""
    run, pipeline = tmp_path / "run", tmp_path / "pipeline"
    for folder in (run, pipeline):
        FolderLock(folder).release()
    (run / "run.json").write_text('{"status": "running", "started": "2026-01-01T00:00:00+00:00"}')
    stages = {"caption": {"status": "begun", "began": "2026-01-01T00:00:00+00:00"}}
    (pipeline / "pipeline.json").write_text(json.dumps({"schema": 2, "stages": stages}))
    for folder, key in ((run, "status"), (pipeline, "caption")):
        outcome, at_work = status.state_of(str(folder), None, None)
        assert not at_work and "its process is gone" in outcome.summary[key]
        assert "run its command again" in (outcome.hint or outcome.summary[key])
        with FolderLock(folder):
            outcome, at_work = status.state_of(str(folder), None, None)
        assert at_work and "gone" not in outcome.summary[key]


def test_what_has_stopped_has_no_time_left_and_says_how_to_resume(tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text('{"status": "running", "search": "optuna"}')
    (run / "recipe.yaml").write_text("training: {epochs: 5, early_stopping: {metric: CIDEr}}")
    (run / "metrics.jsonl").write_text('{"epoch": 2, "seconds": 2.0, "val_loss": 1.0, "CIDEr": 1.0}\n')
    (run / "trials/000").mkdir(parents=True)
    (run / "trials/000/run.json").write_text('{"status": "running"}')
    outcome, _ = status.state_of(str(run), None, None)
    assert outcome.summary["epochs_left"] == 3 and "time_left" not in outcome.summary
    assert outcome.summary["trials_interrupted"] == 1 and "last_sign_of_life" in outcome.summary
    assert outcome.hint == "To resume it, run its command again."
    (run / "search.yaml").write_text(
        "tune: {trials: 2, space: {model.hidden: [8, 16]}}\ntraining: {early_stopping: {metric: loss}}\n"
    )
    outcome, _ = status.state_of(str(run), None, None)
    resume = f"To resume it: rnncond tune {run}/search.yaml --out {run}"
    assert outcome.hint == resume
    (run / "run.json").write_text('{"status": "running", "search": "optuna", "mlflow_uri": "sqlite:////a/mlflow.db"}')
    outcome, _ = status.state_of(str(run), None, None)
    assert outcome.hint == f"{resume} --tracking-uri sqlite:////a/mlflow.db", "where its run is"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////a/mlflow.db")
    outcome, _ = status.state_of(str(run), None, None)
    assert outcome.hint == resume
    (run / "run.json").write_text('{"status": "running"}')
    outcome, _ = status.state_of(str(run), None, None)
    assert outcome.hint == f"To resume it: rnncond train {run}/recipe.yaml --out {run}"
    (run / "run.json").write_text('{"status": "running", "search": "optuna"}')
    with FolderLock(run):
        outcome, _ = status.state_of(str(run), None, None)
    assert outcome.summary["time_left"] == "6 s" and outcome.summary["trials_running"] == 1 and outcome.hint is None


def test_a_training_that_is_prepared_is_seen(tmp_path, monkeypatch):
    out = tmp_path / "runs" / "new"
    with Preparation(RunPlace.at(str(out))) as preparation:
        preparation.phase("preparing the data")
        outcome, at_work = status.state_of(str(out), None, None)
        assert at_work and outcome.summary["status"].endswith(": preparing the data")
        assert outcome.summary["status"].startswith("being prepared for") and outcome.hint is None
        assert f"pid {os.getpid()}" in outcome.summary["writer"]
        with monkeypatch.context() as patch:
            patch.setattr("feature_store.ledger.process_start", lambda pid: "")
            outcome, at_work = status.state_of(str(out), None, None)
        assert not at_work and "its process is gone; it was preparing the data" in outcome.summary["status"]
        assert outcome.hint == "To resume it, run its command again."
    assert not (tmp_path / "runs").exists()
    out.mkdir(parents=True)
    with Preparation(RunPlace.at(str(out))) as preparation:
        preparation.phase("starting Ray")
        (out / "run.json").write_text('{"status": "running"}')
        preparation.end()
    assert [path.name for path in out.iterdir()] == ["run.json"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"stages": 3}'])
def test_what_has_no_state(tmp_path, capsys, damage):
    assert rnncond("status", tmp_path / "nowhere") == 2
    assert "There is no work in" in capsys.readouterr().err
    (tmp_path / "pipeline.json").write_text(damage)
    assert rnncond("status", tmp_path) == 2


def test_files_that_go_while_they_are_looked_at_are_passed_over(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (5, 5))
    (tmp_path / "gone").symlink_to("nowhere")  # as one that goes between its name and its time
    assert status.newest_write(tmp_path) == 5
    assert status.newest_write(tmp_path / "none") is None
