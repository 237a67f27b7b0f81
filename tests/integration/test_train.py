import socket
from pathlib import Path
from urllib.request import urlopen

import pytest
import torch

from pipelines.cluster.resources import Cluster, Node
from pipelines.errors import UserError
from pipelines.files.jsonl import read_lines
from pipelines.tracking import client as reaching
from pipelines.tracking.models import locate
from pipelines.training import driver
from pipelines.training.data.task import prepare
from pipelines.training.learner import Learner
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.info import read_run
from pipelines.verbs import train, tune
from rnncond.checkpoint import load
from tests.worlds.command import run_hint
from tests.worlds.searches import mlflow_runs
from tests.worlds.training import TINY, tiny_recipe

HALF = ("cluster.workers=2", "cluster.cpus_per_worker=0.5")
TWO_CPUS = Cluster((Node(2, 0),))


def train_tiny(world, *overrides, out="run", **settings):
    return train.run("show_tell.small", [*world, *TINY, "cluster.threads=1", *overrides], out=out, **settings)


@pytest.mark.slow  # a training that was killed twice, which is held to the same loop, is never left out
@pytest.mark.ray
def test_one_worker_equals_the_loop_without_ray(ray_cluster, world, tmp_path):
    outcome = train_tiny(world)
    assert (outcome.summary["epochs"], outcome.failed) == (3, 0)
    run = read_run("run")
    assert (run["status"], run["images"], run["validation_images"]) == ("finished", 18, 6)
    assert {line["epoch"] for line in read_lines("run/samples.jsonl")} == {1, 2, 3}
    left = {path.name for path in Path("run").iterdir()}
    assert left == {".lock", "recipe.yaml", "run.json", "metrics.jsonl", "samples.jsonl", "best", "last", "checkpoints"}
    assert learn_alone(world, tmp_path / "alone").train_state.epoch == 3
    assert load("run/last").model_id == load("alone/last").model_id
    assert mlflow_runs() == [("FINISHED", [1, 2, 3])]


@pytest.mark.parametrize("where", ["folder", "object storage"])
def test_a_finished_run_is_left_alone_and_more_epochs_resume_it(without_ray, no_java, world, tmp_path, capsys, where):
    """In object storage each call has a working copy of its own, as on another machine."""
    out = f"file://{tmp_path}/bucket/run" if where == "object storage" else str(tmp_path / "run")
    outcome = train_tiny(world, out=out)
    assert (outcome.summary["epochs"], outcome.summary["model"]) == (3, f"{out}/best")
    assert "is finished" not in capsys.readouterr().err
    before = load(locate(f"{out}/last")).model_id
    assert train_tiny(world, out=out).summary["epochs"] == 3
    assert "is finished" in capsys.readouterr().err
    assert load(locate(f"{out}/last")).model_id == before

    assert train_tiny(world, "training.epochs=5", out=out).summary["epochs"] == 5
    assert mlflow_runs() == [("FINISHED", [1, 2, 3, 4, 5])]
    with pytest.raises(UserError, match=r"another recipe:\n  model\.hidden: was 8, is 9"):
        train_tiny(world, "model.hidden=9", out=out)
    learn_alone(world, tmp_path / "longer", "training.epochs=5")
    for model in ("best", "last"):
        assert load(locate(f"{out}/{model}")).model_id == load(f"longer/{model}").model_id
    assert not Path("file:").exists()
    if where == "folder":
        assert run_hint(outcome, codes=(0, 3)) == ["evaluate", "report"]


def learn_alone(world, out, *overrides) -> Learner:
    recipe = tiny_recipe(world, out, *overrides)
    journal = RunFolder(out)
    journal.open(recipe.to_yaml(), {})
    learner = Learner(prepare(recipe)[0], journal)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums depend on how they are shared out
    learner.run()
    torch.set_num_threads(threads)
    return learner


@pytest.mark.ray
def test_two_workers_have_the_loss_curve_of_one_with_twice_the_batch(ray_cluster, world, tmp_path):
    exact = ("model.dropout=0", "training.epochs=2", "training.captions_per_image=3", "training.average_last=2",
             "training.accumulate=2")  # fmt: skip
    train_tiny(world, *exact, *HALF, "training.images_per_batch=2")
    alone = learn_alone(world, tmp_path / "local", *exact, "training.images_per_batch=4")
    assert read_lines("run/metrics.jsonl")[-1]["step"] == alone.train_state.steps == 2 * 3
    for model in ("last", "averaged"):
        together, expected = (load(f"{folder}/{model}").model.state_dict() for folder in ("run", "local"))
        for name, tensor in together.items():
            torch.testing.assert_close(tensor, expected[name], atol=2e-5, rtol=1e-3)
    assert read_run("run")["averaged"]["val_loss"] == pytest.approx(read_run("local")["averaged"]["val_loss"], rel=1e-4)
    lines, alone_lines = read_lines("run/metrics.jsonl"), read_lines("local/metrics.jsonl")
    for line, other in zip(lines, alone_lines, strict=True):
        assert {key: line[key] for key in ("train_loss", "val_loss")} == pytest.approx(
            {key: other[key] for key in ("train_loss", "val_loss")}, rel=1e-4
        )


def test_a_second_run_on_one_folder_is_refused_and_the_first_is_not_touched(without_ray, world, monkeypatch):
    monkeypatch.setattr(driver, "LOCK_SECONDS", 0.1)
    first = RunFolder("run")
    first.open(tiny_recipe(world, Path("run")).to_yaml(), {"data_id": "", "mlflow_run_id": "x"})
    with pytest.raises(UserError, match="Another run is writing"):
        train_tiny(world, restart=True)
    assert read_run("run")["status"] == "running"


def test_a_diverging_run_ends_with_advice_and_is_failed(without_ray, world):
    with pytest.raises(UserError, match="learning_rate"):
        train_tiny(world, "training.learning_rate=3e38", "training.clip_norm=null")
    assert read_run("run")["status"] == "failed"
    assert [status for status, _ in mlflow_runs()] == ["FAILED"]


def test_more_than_the_cluster_holds_is_refused_at_once(without_ray, world):
    with pytest.raises(UserError, match=r"workers is 3, with 1 CPU each, but the cluster has 2 CPUs.*room for 2"):
        train_tiny(world, "cluster.workers=3", "cluster.cpus_per_worker=1")
    assert not Path("run").exists()
    assert not Path("mlflow.db").exists()


@pytest.fixture
def refused():
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def begin_old_run() -> None:
    """That a test is to throw away."""
    journal = RunFolder("run")
    journal.open("old: 1\n", {"data_id": "old"})
    journal.save_checkpoint(5, {"state": b"x"}, {"best": {"model.json": b"{}"}})
    journal.close()


@pytest.mark.parametrize("verb", [train, tune])
def test_a_server_that_is_not_there_is_said_before_anything_is_done(world, monkeypatch, refused, verb):
    """Also where an old run was to be thrown away: it is as it was."""
    monkeypatch.setattr(reaching, "PATIENCE", 600)  # who refuses is not waited for
    monkeypatch.setattr(driver, "prepare", lambda *_: pytest.fail("the data were prepared"))
    begin_old_run()
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    overrides = [*world, *TINY, "tune={trials: 2, space: {training.learning_rate: [0.1, 0.2]}}"]
    with pytest.raises(UserError, match=f"MLflow at {refused} cannot be used: .*refused"):
        verb.run("show_tell.small", overrides, out="run", restart=True, tracking_uri=refused)
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("verb", [train, tune])
def test_a_server_that_goes_meanwhile_costs_no_old_run(without_ray, world, monkeypatch, refused, verb):
    def once(uri):
        monkeypatch.setattr(driver, "check_reachable", lambda uri: reaching.reach(uri, lambda: urlopen(uri)))

    monkeypatch.setattr(driver, "check_reachable", once)
    begin_old_run()
    kept = set(Path("run").rglob("*"))
    overrides = [*world, *TINY, "tune={trials: 2, space: {training.learning_rate: [0.1, 0.2]}}"]
    with pytest.raises(UserError, match=r"cannot be used: .*refused"):
        verb.run("show_tell.small", overrides, out="run", restart=True, tracking_uri=refused)
    assert kept <= set(Path("run").rglob("*"))


@pytest.mark.parametrize("verb", [train, tune])
def test_a_bucket_that_is_not_there_is_said_before_the_data_are_read(world, bucket, verb):
    overrides = [*world, *TINY, "tune={trials: 2, space: {training.learning_rate: [0.1, 0.2]}}", "data.store=nowhere"]
    with pytest.raises(
        UserError, match=r"Nothing can be written to s3://no-such-bucket-here/run: .*a bucket that exists"
    ):
        verb.run("show_tell.small", overrides, out="s3://no-such-bucket-here/run")
    assert not Path("s3:").exists()


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("verb", [train, tune])
def test_a_database_in_no_folder_is_said_first(world, verb, dry_run):
    overrides = [*world, *TINY, "tune={trials: 2, space: {training.learning_rate: [0.1, 0.2]}}", "data.store=nowhere"]
    with pytest.raises(UserError, match="there is no folder /nowhere"):
        verb.run("show_tell.small", overrides, out="run", dry_run=dry_run, tracking_uri="sqlite:////nowhere/mlflow.db")


def test_a_finished_run_says_how_its_model_is_registered_afterwards(world, capsys):
    recipe = tiny_recipe(world, Path("run").absolute())
    journal = RunFolder("run")
    journal.open(recipe.to_yaml(), {"data_id": prepare(recipe)[0].data_id, "mlflow_run_id": "x"})
    journal.epoch({"epoch": 3, "seconds": 1.0}, [])
    journal.update(status="finished", best={"epoch": 3})
    journal.close()
    train_tiny(world, "tracking.registered_model=teller")
    assert "rnncond promote --model " in capsys.readouterr().err


def test_changed_data_is_not_gone_on_with(world):
    recipe = tiny_recipe(world, Path("run").absolute())
    journal = RunFolder("run")
    journal.open(recipe.to_yaml(), {"data_id": "of other captions"})
    journal.close()
    with pytest.raises(UserError, match="begun with other data"):
        train_tiny(world)
