import time
from pathlib import Path

import pytest
import ray

from pipelines.errors import Fault, UserError
from pipelines.files.remote_folder import RemoteFolder
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.info import RunInfo, RunPlace, read_run
from pipelines.training.run.writer import RunClient, RunWriter, run_writer


@pytest.fixture
def writer(tmp_path):
    return RunWriter(tmp_path)


def opened(writer: RunWriter, name: str, about: dict, recipe: str = "a: 1\n", restart: bool = False) -> RunInfo:
    writer.take(name)
    return writer.take_over(name, recipe, about, restart)


def test_only_the_newest_writer_of_a_run_is_listened_to(writer):
    opened(writer, "", {})
    old = writer.begin("")
    writer.call("", old, "progress", step=1)
    new = writer.begin("")
    with pytest.raises(RuntimeError, match="another process trains it"):
        writer.call("", old, "progress", step=2)
    writer.call("", new, "progress", step=3)
    writer.call("", None, "progress", step=4)  # the driver has no term
    assert [entry["step"] for entry in writer.take_news()[""]] == [1, 3, 4]


def test_runs_are_apart(writer):
    terms = {}
    for name in ("trials/000", "trials/001"):
        opened(writer, name, {"params": {}})
        terms[name] = writer.begin(name)
        writer.call(name, terms[name], "note", f"of {name}")
    assert {name: [entry["message"] for entry in news] for name, news in writer.take_news().items()} == {
        "trials/000": ["of trials/000"], "trials/001": ["of trials/001"],
    }  # fmt: skip
    writer.amend("trials/000", status="stopped")
    with pytest.raises(RuntimeError, match="is over"):
        writer.call("trials/000", terms["trials/000"], "note", "late")
    writer.call("trials/001", terms["trials/001"], "note", "in time")
    assert read_run(writer.root / "trials/000")["status"] == "stopped"
    RunFolder(writer.root / "trials/000").open("a: 1\n", {})


def test_a_run_that_is_opened_again_is_that_of_the_new_process(writer):
    opened(writer, "trials/000", {"params": {"seed": 1}})
    old = writer.begin("trials/000")
    assert opened(writer, "trials/000", {"params": {"seed": 2}})["params"] == {"seed": 1}
    assert writer.begin("trials/000") > old
    with pytest.raises(RuntimeError):
        writer.call("trials/000", old, "update", status="finished")


def test_the_end_of_a_run_that_never_opened_its_folder_is_written(writer):
    writer.amend("trials/002", status="failed", reason="no room")
    info = read_run(writer.root / "trials/002")
    assert (info["status"], info["reason"]) == ("failed", "no room")


def test_a_folder_that_is_refused_is_not_held(writer):
    opened(writer, "", {})
    writer.close("")
    (writer.root / "checkpoints" / "step-00000001").mkdir(parents=True)  # a damaged one
    with pytest.raises(UserError, match="cannot be resumed from any checkpoint"):
        opened(writer, "", {})
    RunFolder(writer.root).open("a: 1\n", {}, restart=True)


def test_runs_in_object_storage_are_apart_and_given_back_at_the_end(bucket, tmp_path):
    remote = RemoteFolder.at(f"{bucket[0]}/search")
    writer = RunWriter(tmp_path / "a", remote)
    for name in ("", "trials/000"):
        opened(writer, name, {"params": {}})
    writer.call("trials/000", writer.begin("trials/000"), "epoch", {"epoch": 1}, [])
    writer.amend("trials/000", status="stopped")
    writer.amend("trials/001", status="failed")  # it never opened its folder
    writer.amend("trials/000", mlflow_run_id="x")
    with pytest.raises(UserError, match=r"Another run is writing to s3://.*/search "):
        opened(RunWriter(tmp_path / "b", remote), "", {})
    writer.close_all()
    place = RunPlace.at(remote.uri)
    place.copy_runs("trials")
    trials = {name: read_run(place.folder / "trials" / name) for name in ("000", "001")}
    assert (trials["000"]["status"], trials["000"]["mlflow_run_id"], trials["001"]["status"]) == (
        "stopped",
        "x",
        "failed",
    )
    assert (place.folder / "trials/000/metrics.jsonl").exists()
    other = RunWriter(tmp_path / "b", remote)
    opened(other, "", {}, "b: 1\n", restart=True)
    assert remote.names("trials") == []
    other.close_all()


@pytest.mark.ray
def test_a_client_has_the_folders_own_methods(ray_cluster, tmp_path):
    with run_writer(tmp_path) as actor:
        driver = RunClient(actor)
        assert driver.open("a: 1\n", {"seed": 3})["seed"] == 3
        run = driver.writer()
        assert run.checkpoint() is None
        run.save_checkpoint(5, {"state": b"x"}, {"last": {"weights": b"y"}}, history=1)
        run.epoch({"epoch": 1}, [])
        run.report_error("no such file")
        run.save_average({"weights": b"z"}, {"epoch": 1})
        run.write("search.yaml", "a: 1\n")
        assert (run.checkpoint(), run.history(), run.epochs()) == ({"state": b"x"}, [{"weights": b"y"}], [{"epoch": 1}])
        assert driver.reported_error() == "no such file"
        assert [entry["kind"] for entry in driver.take_news()] == ["epoch"]
        driver.amend(status="failed")
        assert driver.open("a: 1\n", {})["averaged"] == {"epoch": 1}

        driver.take(0)
        with pytest.raises(UserError, match="Another run is writing"):
            RunFolder(tmp_path).open("a: 1\n", {})
        assert driver.take_over("a: 1\n", {}, restart=False)["seed"] == 3
    assert Path(tmp_path / "search.yaml").exists()


@pytest.mark.ray
def test_a_writer_that_has_died_is_a_fault(ray_cluster, tmp_path):
    with run_writer(tmp_path) as actor:
        driver = RunClient(actor)
        driver.open("a: 1\n", {})
        run = driver.writer()
        ray.kill(actor)
        end = time.monotonic() + 60
        for call in (driver.reported_error, run.checkpoint):
            with pytest.raises(Fault, match="has died"):
                while time.monotonic() < end:  # it may yet answer what came before its end
                    call()


@pytest.mark.ray
def test_what_the_writer_refuses_is_refused_in_the_workers(ray_cluster, tmp_path):
    first = RunFolder(tmp_path)
    first.open("a: 1\n", {})
    with run_writer(tmp_path) as actor, pytest.raises(UserError, match="Another run is writing"):
        RunClient(actor).open("a: 1\n", {})
