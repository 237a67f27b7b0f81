from types import SimpleNamespace

from pipelines.cluster.resources import Cluster, Node, Share
from pipelines.console import Progress
from pipelines.training.monitor import TrainMonitor, want_of_room
from pipelines.training.run.folder import RunFolder


def test_the_user_is_told_of_lost_nodes_that_training_waits_for():
    share = Share(workers=4, at_least=2, cpus=1, gpus=0, threads=1)
    assert want_of_room(Cluster((Node(2, 0),)), share) == []
    (note,) = want_of_room(Cluster((Node(1, 0),)), share)
    assert "no longer room for 2 to 4 workers with 1 CPU" in note["message"]
    assert "has 1 CPU and 0 GPUs" in note["message"]


def test_before_the_first_step_the_line_says_what_goes_on(tmp_path, capsys, monkeypatch):
    """And afterwards the steps, also where another worker begins in the place of a lost one."""
    monkeypatch.setattr("pipelines.console.LOG_SECONDS", 0)
    monitor = SimpleNamespace(
        training=SimpleNamespace(epochs=2),
        meter=SimpleNamespace(progress=lambda entry: None),
        tracking=SimpleNamespace(log_step=lambda entry: None),
    )
    run = RunFolder(tmp_path)
    with Progress("train", "steps", None) as progress:
        for now in ("loading the data and the model", "computing the first step"):
            run.phase(now)
            TrainMonitor.show(monitor, *run.take_news(), progress)
            assert f"train: {now}" in capsys.readouterr().err
        run.progress(epoch=1, step=3, of=10, train_loss=1.0)
        run.phase("loading the data and the model")
        for entry in run.take_news():
            TrainMonitor.show(monitor, entry, progress)
        progress.show()
        told = capsys.readouterr().err
    assert "train: 3 of 20 steps" in told and "loading" not in told
