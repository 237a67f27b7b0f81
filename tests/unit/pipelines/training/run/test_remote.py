"""A run in a real S3 server (``bucket``), held to the laws of a run folder and to an unbroken run in one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import boto3
import pytest

from feature_store.ledger import Heartbeat
from pipelines.errors import UserError
from pipelines.files.jsonl import read_lines
from pipelines.files.remote_folder import RemoteFolder
from pipelines.training.data.task import prepare
from pipelines.training.learner import Learner
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.info import RunPlace, read_run
from pipelines.training.run.remote import RemoteRun, RunUploader
from pipelines.training.run.state import CHECKPOINTS
from rnncond.checkpoint import load
from tests.worlds.bad_storage import BadStorage
from tests.worlds.training import Deadly, Killed, learner, make_world, tiny_recipe, without_clock

pytestmark = [pytest.mark.usefixtures("writers_end"), pytest.mark.heavy]
OFTEN = ("training.checkpoint_steps=2", "training.average_last=2", "model.dropout=0.5")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """The folder of the unbroken run."""
    folder = tmp_path_factory.mktemp("whole")
    learner(world, folder, *OFTEN).run()
    return folder


@pytest.fixture
def uri(bucket):
    return f"{bucket[0]}/runs/nightly"


def opened(uri: str, working: Path, **options) -> RemoteRun:
    run = RemoteRun(working, RemoteFolder.at(uri))
    run.open("a: 1\n", {"seed": 3}, **options)
    return run


def uploader(run: RemoteRun) -> RunUploader:
    return RunUploader(lambda method, *args, **options: getattr(run, method)(*args, **options), run.folder)


class Mortal(Deadly, RunUploader):
    """Of what it was handed in, the last may be under way when its learner dies."""


def remote_learner(world: list[str], uri: str, working: Path, lives: int = 0) -> tuple[Learner, RemoteRun]:
    """A learner outside Ray whose run is at ``uri``."""
    recipe = tiny_recipe(world, uri, *OFTEN)
    run = RemoteRun(working, RemoteFolder.at(uri))
    run.open(recipe.to_yaml(), {})
    sink = Mortal(uploader(run).call, run.folder)
    sink.lives = lives
    return Learner(prepare(recipe)[0], sink), run


def check_equal(uri: str, whole: Path) -> None:
    """Models bit for bit, and metrics but for their seconds."""
    place = RunPlace.at(uri)
    place.fetch("best", "last", "averaged")
    for name in ("best", "last", "averaged"):
        assert load(place.folder / name).model_id == load(whole / name).model_id
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert without_clock(read_lines(place.folder / name)) == without_clock(read_lines(whole / name))


@pytest.mark.parametrize("lives", [[], [1, 3, 2]])
def test_a_run_that_loses_its_machine_again_and_again_equals_the_unbroken_one(world, whole, uri, tmp_path, lives):
    for number, count in enumerate(lives):
        broken, run = remote_learner(world, uri, tmp_path / str(number), count)
        with pytest.raises(Killed):
            broken.run()
        broken.sink.pool.shutdown()
        run.close()
        shutil.rmtree(tmp_path / str(number))  # with its disk
    resumed, run = remote_learner(world, uri, tmp_path / "last")
    assert (resumed.train_state.steps > 0) == bool(lives)
    resumed.run()
    run.update(status="finished")
    run.close()
    check_equal(uri, whole)
    assert len(RemoteFolder.at(uri).read().folders) == 3 + 2 + CHECKPOINTS  # models, of which two were averaged


def test_storage_that_errs_does_not_change_the_result(world, whole, uri, s3_server, no_pauses, tmp_path):
    with BadStorage(s3_server, 0.2, seed=5) as bad:
        options = f"?endpoint_override={bad.url.removeprefix('http://')}&scheme=http"
        for number, lives in enumerate((2, 0)):
            trained, run = remote_learner(world, uri + options, tmp_path / str(number), lives)
            if lives:
                with pytest.raises(Killed):
                    trained.run()
                trained.sink.pool.shutdown()
            else:
                trained.run()
            run.close()
        assert bad.errors > 0
    check_equal(uri, whole)


def test_a_damaged_newest_checkpoint_means_the_one_before_it(world, whole, uri, s3_server, tmp_path):
    broken, run = remote_learner(world, uri, tmp_path / "a", 4)
    with pytest.raises(Killed):
        broken.run()
    broken.sink.pool.shutdown()
    older, newest = run.kept("checkpoints").values()
    run.close()
    s3 = boto3.client("s3", endpoint_url=s3_server)
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    s3.put_object(Bucket=bucket, Key=f"{prefix}/{newest['state.safetensors'].path}", Body=b"damaged")
    resumed, run = remote_learner(world, uri, tmp_path / "b")
    (note,) = run.take_news()
    assert "state.safetensors, 7 bytes, is not what was written" in note["message"]
    position = json.loads(RemoteFolder.at(uri).get(older)["position.json"])
    assert resumed.train_state.steps == position["steps"]
    resumed.run()
    run.close()
    check_equal(uri, whole)


def test_all_damaged_is_told_and_not_begun_again(uri, s3_server, tmp_path):
    run = opened(uri, tmp_path / "a")
    sink = uploader(run)
    for step in (1, 2):
        sink.save_checkpoint(step, {"state": b"x"})
    sink.flush()
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    s3 = boto3.client("s3", endpoint_url=s3_server)
    for stored in run.kept("checkpoints").values():
        s3.delete_object(Bucket=bucket, Key=f"{prefix}/{stored['state'].path}")
    with pytest.raises(UserError, match=r"cannot be resumed from any checkpoint in s3://.*--restart"):
        sink.checkpoint()


def test_a_second_run_is_refused(uri, tmp_path):
    run = opened(uri, tmp_path / "a")
    with pytest.raises(UserError, match=rf"Another run is writing to {uri} \(host .*, pid {os.getpid()}"):
        opened(uri, tmp_path / "b")
    run.close()
    opened(uri, tmp_path / "b").close()


def test_a_run_that_was_given_up_and_comes_back_changes_nothing(uri, tmp_path, monkeypatch):
    first = opened(uri, tmp_path / "a")
    monkeypatch.setattr(Heartbeat, "process", lambda self: "gone")
    second = opened(uri, tmp_path / "b")
    sinks = uploader(first), uploader(second)
    sinks[1].save_checkpoint(7, {"state": b"second"})
    sinks[1].flush()
    sinks[0].save_checkpoint(9, {"state": b"first"})
    with pytest.raises(UserError, match="taken over"):
        sinks[0].flush()
    with pytest.raises(UserError, match="taken over"):
        first.update(status="finished")
    assert sinks[1].checkpoint() == {"state": b"second"}
    assert RunPlace.at(uri).folder.joinpath("run.json").read_text() == (tmp_path / "b" / "run.json").read_text()


def test_restart_throws_the_old_run_away(uri, tmp_path, s3_server):
    run = opened(uri, tmp_path / "a")
    sink = uploader(run)
    sink.save_checkpoint(1, {"state": b"x"}, {"last": {"w": b"1"}, "best": {"w": b"1"}}, history=3)
    run.epoch({"epoch": 1}, [])
    sink.flush()
    run.close()
    again = opened(uri, tmp_path / "b", restart=True)
    assert uploader(again).checkpoint() is None
    contents = RemoteFolder.at(uri).read()
    assert contents.texts.keys() == {"run.json", "recipe.yaml"} and contents.folders == {}
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    listed = boto3.client("s3", endpoint_url=s3_server).list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/data/")
    assert [entry["Key"] for entry in listed.get("Contents", []) if entry["Size"]] == []


def test_what_is_kept_is_what_a_folder_would_keep(uri, tmp_path):
    local, remote = RunFolder(tmp_path / "local"), opened(uri, tmp_path / "working")
    local.open("a: 1\n", {"seed": 3})
    sink = uploader(remote)
    for step in (1, 2, 3, 9, 5, 6, 6):  # what came after a damaged state is left behind
        for run in (local, sink):
            model = {"w": str(step).encode()}
            run.save_checkpoint(step, {"state": str(step).encode()}, {"last": model}, history=3)
        sink.flush()
        assert sink.history() == local.history()
        assert sink.checkpoint() == local.checkpoint()
        kept = sorted(path.name for path in (local.out / "checkpoints").iterdir())
        assert list(remote.kept("checkpoints")) == kept


def test_a_model_that_is_best_and_last_is_sent_once(uri, tmp_path):
    run = opened(uri, tmp_path)
    sink = uploader(run)
    model = {"weights": b"1"}
    sink.save_checkpoint(1, {"state": b"x"}, {"last": model, "best": model})
    sink.flush()
    assert run.folders["last"] == run.folders["best"]
    sink.save_checkpoint(2, {"state": b"y"}, {"last": {"weights": b"2"}})
    sink.flush()
    assert run.folder.get(run.folders["best"]) == model


def test_a_state_is_sent_while_training_goes_on_and_one_at_most(uri, tmp_path):
    run = opened(uri, tmp_path)
    sink = uploader(run)
    gate, call = threading.Event(), sink.call

    def held(method, *args, **options):
        if method == "keep_checkpoint":
            assert gate.wait(60)
        return call(method, *args, **options)

    sink.call = held
    sink.save_checkpoint(1, {"state": b"1"})
    assert run.kept("checkpoints") == {}  # and yet the call has returned
    second = threading.Thread(target=sink.save_checkpoint, args=(2, {"state": b"2"}))
    second.start()
    assert second.is_alive() and run.kept("checkpoints") == {}
    gate.set()
    second.join()
    sink.flush()
    assert list(run.kept("checkpoints")) == ["step-00000001", "step-00000002"]


KILLED = """
import sys
import threading
from pathlib import Path
from tests.unit.pipelines.training.run.test_remote import remote_learner
uri, working, *world = sys.argv[1:]
trained, run = remote_learner(world, uri, Path(working))
save = trained.sink.save_checkpoint
def told(step, *args, **kwargs):
    print(step, flush=True)
    save(step, *args, **kwargs)
trained.sink.save_checkpoint = told
trained.run()
"""


def test_a_process_that_is_killed_while_a_state_is_under_way_costs_nothing_but_time(world, whole, uri, tmp_path):
    """Nobody closes anything."""
    words = [sys.executable, "-c", KILLED, uri, str(tmp_path / "killed"), *world]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    for _ in range(4):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed, run = remote_learner(world, uri, tmp_path / "last")
    resumed.run()
    run.close()
    check_equal(uri, whole)


def test_a_place_is_a_folder_or_a_working_copy(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = RunPlace.at("runs/nightly")
    assert (here.folder, here.shown, here.remote) == (tmp_path / "runs/nightly", "runs/nightly", None)
    assert here.address == str(tmp_path / "runs/nightly") and here.within("best") == "runs/nightly/best"
    here.fetch("best")
    run = opened(uri, tmp_path / "working")
    sink = uploader(run)
    sink.save_checkpoint(1, {"state": b"x"}, {"best": {"weights": b"1"}})
    sink.flush()
    there = RunPlace.at(uri)
    assert there.folder.name == "nightly" and read_run(there.folder)["seed"] == 3
    assert there.within("best") == f"{uri}/best"
    there.fetch("best", "averaged")
    assert (there.folder / "best" / "weights").read_bytes() == b"1" and not (there.folder / "averaged").exists()
