import json
import socket
import threading
import time
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import mlflow
import pytest
import ray
import torch
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import WorkerGroupError

from pipelines.cluster import resources
from pipelines.cluster.resources import Cluster, Node
from pipelines.config.sections import Cluster as Asked
from pipelines.errors import Fault, UserError
from pipelines.files.jsonl import read_lines
from pipelines.tracking import client as reaching
from pipelines.training import launch, watch
from pipelines.training.data.task import prepare
from pipelines.training.learner import Learner
from pipelines.training.run_actor import Shared, journal_of
from pipelines.training.run_folder import RunFolder, read_run
from pipelines.training.state import Position
from pipelines.verbs import train, tune
from rnncond.checkpoint import load, save
from tests.worlds.training import TINY, make_world, tiny_recipe
from tests.worlds.translator import make_translator

HALF = ("cluster.workers=2", "cluster.cpus_per_worker=0.5")
TWO_CPUS = Cluster((Node(2, 0),))


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return make_world(tmp_path)


def train_tiny(world, *overrides, **settings):
    return train.run("show_tell.small", [*world, *TINY, "cluster.threads=1", *overrides], out="run", **settings)


def mlflow_runs():
    client = mlflow.MlflowClient(f"sqlite:///{Path('mlflow.db').absolute()}")
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return [(run.info.status, [m.step for m in client.get_metric_history(run.info.run_id, "epoch")]) for run in found]


@pytest.mark.ray
def test_one_worker_equals_the_loop_without_ray_and_more_epochs_go_on(ray_cluster, world, tmp_path, capsys):
    outcome = train_tiny(world)
    assert (outcome.summary["epochs"], outcome.failed) == (3, 0)
    run = read_run("run")
    assert (run["status"], run["images"], run["validation_images"]) == ("finished", 18, 6)
    assert {line["epoch"] for line in read_lines("run/samples.jsonl")} == {1, 2, 3}
    left = {path.name for path in Path("run").iterdir()}
    assert left == {".lock", "recipe.yaml", "run.json", "metrics.jsonl", "samples.jsonl", "best", "last", "checkpoints"}

    assert learn_alone(world, tmp_path / "alone").position.epoch == 3
    assert load("run/last").model_id == load("alone/last").model_id

    capsys.readouterr()
    assert train_tiny(world).summary["epochs"] == 3
    assert "is finished" in capsys.readouterr().err
    assert load("run/last").model_id == load("alone/last").model_id

    assert train_tiny(world, "training.epochs=5").summary["epochs"] == 5
    assert mlflow_runs() == [("FINISHED", [1, 2, 3, 4, 5])]
    with pytest.raises(UserError, match=r"another recipe:\n  model\.hidden: was 8, is 9"):
        train_tiny(world, "model.hidden=9")


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
    assert read_lines("run/metrics.jsonl")[-1]["step"] == alone.position.steps == 2 * 3
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


@pytest.mark.ray
def test_a_second_run_on_one_folder_is_refused_and_the_first_is_not_touched(ray_cluster, world, monkeypatch):
    monkeypatch.setattr(train, "LOCK_SECONDS", 0.1)
    first = RunFolder("run")
    first.open(tiny_recipe(world, Path("run")).to_yaml(), {"data_id": "", "mlflow_run_id": "x"})
    with pytest.raises(UserError, match="Another run is writing"):
        train_tiny(world, restart=True)
    assert read_run("run")["status"] == "running"


@pytest.mark.ray
def test_a_diverging_run_ends_with_advice_and_is_failed(ray_cluster, world):
    with pytest.raises(UserError, match="learning_rate"):
        train_tiny(world, "training.learning_rate=3e38", "training.clip_norm=null")
    assert read_run("run")["status"] == "failed"
    assert [status for status, _ in mlflow_runs()] == ["FAILED"]


@pytest.mark.ray
def test_more_than_the_cluster_holds_is_refused_at_once(ray_cluster, world):
    with pytest.raises(UserError, match=r"workers is 3, with 1 CPU each, but the cluster has 2 CPUs.*room for 2"):
        train_tiny(world, "cluster.workers=3", "cluster.cpus_per_worker=1")
    assert not Path("run").exists()
    assert not Path("mlflow.db").exists()


@pytest.mark.parametrize(
    ("asked", "cluster", "share"),
    [
        ({}, TWO_CPUS, (1, 2, 0, 2)),
        ({"workers": 2}, TWO_CPUS, (2, 1, 0, 1)),
        ({"workers": 4}, TWO_CPUS, (4, 0.5, 0, 1)),
        ({"workers": 2, "cpus_per_worker": 0.5}, TWO_CPUS, (2, 0.5, 0, 1)),
        ({"workers": 20, "cpus_per_worker": 0.1}, TWO_CPUS, (20, 0.1, 0, 1)),
        ({"threads": 3}, TWO_CPUS, (1, 2, 0, 3)),
        ({}, Cluster((Node(64, 0),)), (1, 8, 0, 8)),
        ({"workers": 2}, Cluster((Node(16, 0), Node(32, 4))), (2, 8, 1, 8)),
        ({"workers": 8}, Cluster((Node(16, 0), Node(32, 4))), (8, 5, 0, 5)),
        ({"workers": 4, "gpus_per_worker": 1}, Cluster((Node(32, 4),)), (4, 8, 1, 8)),
        ({"gpus_per_worker": 0.5}, Cluster((Node(32, 4),)), (1, 8, 0.5, 8)),
        ({"workers": 4, "gpus_per_worker": 0}, Cluster((Node(32, 4),)), (4, 8, 0, 8)),
        ({"workers": 4, "min_workers": 2}, TWO_CPUS, (4, 0.5, 0, 1)),
        ({"workers": 4, "min_workers": 2, "cpus_per_worker": 1}, TWO_CPUS, (4, 1, 0, 1)),
        ({"workers": 4, "min_workers": 2}, Cluster((Node(8, 2),)), (4, 4, 1, 4)),
    ],
)
def test_what_each_worker_gets(asked, cluster, share):
    found = place(asked, cluster)
    assert (found.workers, found.cpus, found.gpus, found.threads) == share


def place(asked, cluster):
    class Wanted:
        cluster = Asked(**asked)

    return resources.place(Wanted, cluster)


@pytest.mark.parametrize(
    ("asked", "room"),
    [
        ({"workers": 3, "cpus_per_worker": 1}, 2),
        ({"cpus_per_worker": 3}, 0),
        ({"gpus_per_worker": 1}, 0),
        ({"workers": 9}, 8),
        ({"workers": 9, "min_workers": 3, "cpus_per_worker": 1}, 2),
    ],
)
def test_a_request_that_cannot_be_placed(asked, room):
    with pytest.raises(UserError, match=f"room for {room}"):
        place(asked, TWO_CPUS)


@pytest.mark.parametrize("asked", [{"workers": 2}, {"workers": 2, "min_workers": 1}])
def test_workers_of_a_training_do_not_share_a_gpu(asked):
    told = r"gpus_per_worker is 0.5 and cluster.workers 2.*cluster.gpus_per_worker=1\).*training.accumulate"
    with pytest.raises(UserError, match=told):
        place({**asked, "gpus_per_worker": 0.5}, Cluster((Node(32, 4),)))


LOST = WorkerHealthCheckFailedError("worker 1", ActorDiedError())


@pytest.mark.parametrize(
    ("error", "problem", "told", "code"),
    [
        (ActorDiedError(), None, "Ray Train's own process", 4),
        (WorkerGroupError("", {0: LOST}), None, "More workers were lost", 4),
        (WorkerGroupError("", {0: LOST}), "the disk is full", "the disk is full", 2),
        (WorkerGroupError("", {0: UserError("no such file")}), None, "no such file", 2),
        (WorkerGroupError("", {0: Fault("the journal has died")}), None, "the journal has died", 4),
    ],
)
def test_what_a_user_is_told_of_a_training_that_ray_gave_up(error, problem, told, code):
    explained = launch.explain(error, SimpleNamespace(problem=lambda: problem))
    assert told in str(explained)
    assert explained.code == code


def test_a_defect_is_no_message_to_the_user():
    with pytest.raises(WorkerGroupError):
        launch.explain(WorkerGroupError("", {0: KeyError("x")}), SimpleNamespace(problem=lambda: None))


def test_the_user_is_told_of_lost_nodes_that_training_waits_for():
    share = resources.Share(workers=4, at_least=2, cpus=1, gpus=0, threads=1)
    assert watch.want_of_room(TWO_CPUS, share) == []
    (note,) = watch.want_of_room(Cluster((Node(1, 0),)), share)
    assert "no longer room for 2 to 4 workers with 1 CPU" in note["message"]
    assert "has 1 CPUs and 0 GPUs" in note["message"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.store=nowhere", "there is no store at"),
        ("data.captions=nowhere.jsonl", "There is no file of captions"),
        ("data.fingerprint=ffff", "no set"),
        ("data.validation=test", "no image of split 'test'"),
        ("text.min_count=1000", "no words"),
    ],
)
def test_bad_input_is_told_before_training(world, override, message):
    with pytest.raises(Exception, match=message) as caught:
        train_tiny(world, override)
    assert type(caught.value).__name__ in ("UserError", "StoreError")


def test_captions_without_images_and_images_without_captions_are_counted_and_named(world):
    path = Path("captions.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["image_id"], lines[0]["file"] = "stranger", "stranger.jpg"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task, about = prepare(tiny_recipe(world, Path("run")))
    assert (about["captions_without_image"], about["images_without_captions"], about["images"]) == (1, 1, 17)
    assert about["unmatched"] == "captions without an image: 1 (stranger); images without captions: 1 (image000)"
    assert "image000" not in task.train.image_ids


@pytest.fixture
def deaf():
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refused():
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def forbids():
    """The address of a server that answers every question with 403."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(403)

        do_GET = do_POST

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("how", ["deaf", "refused", "forbids"])
@pytest.mark.parametrize("verb", [train, tune])
def test_a_server_that_is_not_there_is_said_before_anything_is_done(world, monkeypatch, request, verb, how):
    """Also where an old run was to be thrown away: it is as it was."""
    uri = request.getfixturevalue(how)
    monkeypatch.setattr(reaching, "PATIENCE", 1 if how == "deaf" else 600)  # who refuses is not waited for
    monkeypatch.setattr(verb, "prepare", lambda *_: pytest.fail("the data were prepared"))
    journal = RunFolder("run")
    journal.open("old: 1\n", {"data_id": "old"})
    journal.keep(5, {"state": b"x"}, {"best": {"model.json": b"{}"}})
    journal.close()
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    overrides = [*world, *TINY, "tune={trials: 2, space: {training.learning_rate: [0.1, 0.2]}}"]
    with pytest.raises(UserError, match=f"MLflow at {uri} cannot be used: .*{WHY[how]}"):
        verb.run("show_tell.small", overrides, out="run", restart=True, tracking_uri=uri)
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


WHY = {"deaf": "no answer within 1 seconds", "refused": "refused", "forbids": "403"}


@pytest.mark.ray
@pytest.mark.parametrize("verb", [train, tune])
def test_a_server_that_goes_meanwhile_costs_no_old_run(ray_cluster, world, monkeypatch, refused, verb):
    def once(uri):
        monkeypatch.setattr(verb, "check_reachable", lambda uri: reaching.reach(uri, lambda: urlopen(uri)))

    monkeypatch.setattr(verb, "check_reachable", once)
    journal = RunFolder("run")
    journal.open("old: 1\n", {"data_id": "old"})
    journal.keep(5, {"state": b"x"}, {"best": {"model.json": b"{}"}})
    journal.close()
    kept = set(Path("run").rglob("*"))
    overrides = [*world, *TINY, "tune={trials: 2, space: {training.learning_rate: [0.1, 0.2]}}"]
    with pytest.raises(UserError, match=r"cannot be used: .*refused"):
        verb.run("show_tell.small", overrides, out="run", restart=True, tracking_uri=refused)
    assert kept <= set(Path("run").rglob("*"))


@pytest.mark.parametrize("verb", [train, tune])
def test_a_run_is_not_written_to_object_storage(world, verb):
    overrides = [*world, *TINY, "tune={trials: 2, space: {training.learning_rate: [0.1, 0.2]}}"]
    with pytest.raises(UserError, match="out: found s3://bucket/run, expected a local folder"):
        verb.run("show_tell.small", overrides, out="s3://bucket/run")
    assert not Path("s3:").exists()


def test_a_database_in_no_folder_is_said_first(world):
    with pytest.raises(UserError, match="there is no folder /nowhere"):
        train_tiny(world, "data.store=nowhere", tracking_uri="sqlite:////nowhere/mlflow.db")


def test_a_finished_run_says_how_its_model_is_registered_afterwards(world, capsys):
    recipe = tiny_recipe(world, Path("run").absolute())
    journal = RunFolder("run")
    journal.open(recipe.to_yaml(), {"data_id": prepare(recipe)[0].data_id, "mlflow_run_id": "x"})
    journal.epoch({"epoch": 3, "seconds": 1.0}, [])
    journal.say(status="finished", best={"epoch": 3})
    journal.close()
    train_tiny(world, "tracking.registered_model=teller")
    assert "rnncond promote --model " in capsys.readouterr().err


def test_what_a_run_says_of_its_best_epoch_is_what_its_model_says(world, tmp_path, monkeypatch):
    """An epoch that came again, with other workers, is written but once; the model is of the second time."""
    trained = make_translator(None, seed=1)
    trained.info = {"recipe": {}, "epoch": 2, "val_loss": 0.5}
    save(trained, tmp_path / "best")
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 2, "val_loss": 0.7}\n')
    monkeypatch.setattr(train, "fit", lambda *_: None)
    monkeypatch.setattr(train, "Watch", lambda *_: nullcontext())
    said = []
    share = task = SimpleNamespace(recipe=tiny_recipe(world, tmp_path), describe=str)
    journal = SimpleNamespace(say=lambda best: said.append(best))
    tracking = SimpleNamespace(hand_in=lambda folder, metric, best: said.append(best))
    launch.train(task, journal, tracking, share, tmp_path)
    assert said == [{"epoch": 2, "val_loss": 0.5}] * 2


def test_a_journal_no_longer_listens_to_who_was_given_up():
    journal = Shared("run")
    old = journal.begin()
    journal.call(old, "progress", step=1)
    new = journal.begin()
    with pytest.raises(RuntimeError, match="Another process"):
        journal.call(old, "progress", step=2)
    journal.call(new, "progress", step=3)
    assert [entry["step"] for entry in journal.take()] == [1, 3]


@pytest.mark.ray
def test_a_journal_that_has_died_is_a_fault(ray_cluster, tmp_path):
    with journal_of(tmp_path) as journal:
        desk = journal.writer()
        ray.kill(journal.actor)
        end = time.monotonic() + 60
        for call in (journal.problem, desk.checkpoint):
            with pytest.raises(Fault, match="has died"):
                while time.monotonic() < end:  # it may yet answer what came before its end
                    call()


def test_a_checkpoint_of_another_version_is_said():
    assert Position.read(b'{"epoch": 3}') == Position(epoch=3)
    with pytest.raises(UserError, match=r"another version of rnncond.*momentum"):
        Position.read(b'{"epoch": 3, "momentum": 1}')


def test_changed_data_is_not_gone_on_with(world):
    recipe = tiny_recipe(world, Path("run").absolute())
    journal = RunFolder("run")
    journal.open(recipe.to_yaml(), {"data_id": "of other captions"})
    journal.close()
    with pytest.raises(UserError, match="begun with other data"):
        train_tiny(world)
