"""``rnncond tune`` on Ray: trials, early stopping, populations, MLflow, and what is left behind: nothing."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray
import yaml

from pipelines.errors import UserError
from pipelines.files.jsonl import read_lines
from pipelines.tracking import models
from pipelines.tracking.mlflow_run import log_page
from pipelines.training.run.info import RunPlace, read_run
from pipelines.verbs import status, train, tune
from rnncond.checkpoint import load
from tests.worlds.searches import RATE, epochs_of, runs
from tests.worlds.training import TINY

PATIENCE = 120
"""Seconds that Ray may take to clear up on a busy machine."""
QUIET = ("tracking.system_metrics=false", "tune=null")


def tune_tiny(world, section, *overrides, out="found", **settings):
    arguments = [*world, *TINY, *QUIET, f"tune={json.dumps(section)}", *overrides]
    return tune.run("show_tell.small", arguments, out=out, **settings)


@pytest.fixture
def nothing_left(ray_cluster):
    """A check, with patience: all CPUs are free, and no process of Ray's has come to stay."""
    before = working_processes()

    def check():
        deadline = time.monotonic() + PATIENCE
        while True:
            left, free = working_processes() - before, ray.available_resources().get("CPU")
            if free == 2 and not left:
                return
            assert time.monotonic() < deadline, f"left: {left}; free CPUs: {free}"
            time.sleep(0.2)

    return check


def working_processes():
    """Ray's, with what they are: all but those that wait for work, and the agents of its nodes."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            name = (process.cmdline() or [""])[0]
            if name.startswith("ray::") and name != "ray::IDLE" and not name.endswith("Agent"):
                found.add((process.pid, name))
    return found


@pytest.mark.ray
def test_a_search_with_asha_keeps_the_best_tells_failures_and_frees_what_bad_trials_had(nothing_left, world):
    # The first learns, the second diverges, and the third, whose rate is next to nothing, is given up after an epoch.
    rates = [0.02, 3e38, 1e-6]
    section = {"algorithm": "grid", "asha": {"reduction": 2}, "metric": "loss", "space": {RATE: rates}, "concurrent": 1}
    settings = ("tracking.registered_model=teller", "training.clip_norm=null")
    outcome = tune_tiny(world, section, *settings)
    nothing_left()
    table = read_lines("found/trials.jsonl")
    assert [row["params"] for row in table] == [{RATE: rate} for rate in rates]
    assert [(row["status"], row["epochs"]) for row in table] == [("finished", 3), ("failed", 0), ("stopped", 1)]
    best = table[0]
    assert best["score"] < table[2]["score"]
    assert (outcome.summary["best_trial"], outcome.failed) == (best["trial"], 1)
    assert "learning_rate" in outcome.failures[0]
    assert load(models.locate("found")).model_id == load(f"found/trials/{best['trial']}/best").model_id

    client, trials, parent = runs()
    assert (parent.info.status, parent.data.tags["search"]) == ("FINISHED", "grid")
    # Its scores are the best trial's, so its values are not those of the recipe that was varied.
    told = (parent.data.params[RATE], parent.data.tags["best_trial"], parent.data.tags[f"best.{RATE}"])
    assert told == ("searched", best["trial"], str(best["params"][RATE]))
    kept = client.download_artifacts(parent.info.run_id, "recipe.yaml")
    assert Path(kept).read_text() == Path("found/recipe.yaml").read_text()
    for uri in (f"runs:/{parent.info.run_id}", f"runs:/{parent.info.run_id}/model"):
        assert load(models.locate(uri)).model_id == load("found/best").model_id
    # A trial's folder is a run's: what evaluates it tells MLflow, and its recipe resumes it.
    trial = f"found/trials/{best['trial']}"
    assert yaml.safe_load(Path(trial, "recipe.yaml").read_text())["out"] == str(Path(trial).absolute())
    log_page(read_run(trial), Path("found/trials.jsonl"))
    kept = [file.path for file in client.list_artifacts(trials[best["trial"]].info.run_id)]
    assert "trials.jsonl" in kept
    for row in table:
        run = trials[row["trial"]]
        status = "FAILED" if row["status"] == "failed" else "FINISHED"
        assert (run.info.status, epochs_of(client, run)) == (status, list(range(1, row["epochs"] + 1)))
        assert run.data.tags.get("stopped") == ("asha" if row["status"] == "stopped" else None)
        assert float(run.data.params[RATE]) == row["params"][RATE]
    champion = client.get_model_version_by_alias("teller", "champion")
    assert champion.run_id == trials[best["trial"]].info.run_id

    assert {path.name for path in Path("found").iterdir()} == {
        ".lock", "best", "recipe.yaml", "run.json", "search.yaml", "trials", "trials.jsonl",
    }  # fmt: skip
    recipe = yaml.safe_load(Path("found/recipe.yaml").read_text())
    assert recipe["training"]["learning_rate"] == best["params"][RATE] and "tune" not in recipe
    assert Path(recipe["out"]) == Path("found.best").absolute()
    assert tune_tiny(world, section, *settings).summary == outcome.summary
    assert len(client.search_model_versions("name='teller'")) == 1
    with pytest.raises(UserError, match=r"of another recipe:\n  tune.space.training.learning_rate.choices"):
        tune_tiny(world, section | {"space": {RATE: [0.02]}}, *settings)
    with pytest.raises(UserError, match="holds a trial of a search"):
        train.run("found/recipe.yaml", out=f"found/trials/{best['trial']}")
    with pytest.raises(UserError, match="holds a search"):
        train.run("show_tell.small", [*world, *TINY], out="found")


@pytest.mark.ray
def test_a_population_goes_on_from_the_weights_of_the_best_with_a_rate_of_its_own(nothing_left, world):
    section = {"algorithm": "pbt", "trials": 2, "metric": "loss", "space": {RATE: {"log": [1e-6, 0.1]}}}
    outcome = tune_tiny(world, section | {"pbt": {"interval": 1, "quantile": 0.5}}, "training.samples=0")
    nothing_left()
    assert outcome.summary["trials"] == 2
    exploited = 0
    for name in ("000", "001"):
        lines, run = read_lines(f"found/trials/{name}/metrics.jsonl"), read_run(f"found/trials/{name}")
        assert [line["epoch"] for line in lines] == [1, 2, 3]
        for step in run.get("exploited", []):
            exploited += 1
            assert step["of"] != name
            donor = read_lines(f"found/trials/{step['of']}/metrics.jsonl")
            before, after = lines[step["epoch"] - 1], lines[step["epoch"]]
            assert after["learning_rate"] == step["params"][RATE] != before["learning_rate"]
            # From the weights that the better trial had, not from its own: one epoch does not gain that much.
            assert donor[step["epoch"] - 1]["val_loss"] < before["val_loss"]
            assert after["step"] == donor[step["epoch"]]["step"]
        assert run["params"] == (run["exploited"][-1]["params"] if "exploited" in run else run["params"])
    assert exploited == 2
    client, trials, _ = runs()
    assert {name: epochs_of(client, run) for name, run in trials.items()} == {"000": [1, 2, 3], "001": [1, 2, 3]}


@pytest.mark.slow  # a search resumes in test_train_kill, which is never left out
@pytest.mark.ray
def test_more_trials_may_follow(ray_cluster, world, tmp_path):
    """In object storage, of which each call has another working copy."""
    out = f"file://{tmp_path}/bucket/found"
    section = {"algorithm": "optuna", "trials": 1, "space": {"model.hidden": {"uniform": [4, 16], "step": 4}}}
    tune_tiny(world, section, "training.epochs=1", out=out)
    first = read_lines(RunPlace.at(out).folder / "trials.jsonl")
    outcome = tune_tiny(world, section | {"trials": 2}, "training.epochs=1", out=out)
    table = read_lines(RunPlace.at(out).folder / "trials.jsonl")
    assert (len(table), outcome.summary["trials"], table[0]["params"]) == (2, 2, first[0]["params"])
    assert all(row["params"]["model.hidden"] in (4, 8, 12, 16) for row in table)
    best = load(models.locate(f"{out}/trials/{outcome.summary['best_trial']}"))
    assert load(models.locate(out)).model_id == best.model_id
    client, _, parent = runs()
    steps = [point.step for point in client.get_metric_history(parent.info.run_id, "best_val_loss")]
    assert steps == [1, 2], "so that MLflow shows the newest, whichever epoch was the best"
    assert not Path("file:").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_ends_when_its_time_is_over_and_goes_on(ray_cluster, world, capsys):
    """In 60 milliseconds no trial is done."""
    section = {"algorithm": "random", "trials": 1, "space": {"model.hidden": {"uniform": [4, 16], "step": 4}}}
    with pytest.raises(UserError, match=r"The 0.001 minutes of tune.budget_minutes are over, and no trial has come to"):
        tune_tiny(world, section | {"budget_minutes": 0.001}, "training.epochs=1")
    first = tune_tiny(world, section | {"budget_minutes": 100}, "training.epochs=1").summary
    over = tune_tiny(world, section | {"budget_minutes": 0.001, "trials": 2}, "training.epochs=1").summary
    assert (first["trials"], "left" in first, over["left"], over["model"]) == (1, False, 1, first["model"])
    assert "are over, and 1 trial is left" in capsys.readouterr().err
    assert read_run("found")["status"] == "interrupted"
    shown = status.run("found")
    assert (shown.summary["trials_to_begin"], shown.summary["status"]) == (1, "interrupted")
    assert "rnncond tune found/search.yaml --out found" in shown.hint
    done = tune_tiny(world, section | {"trials": 2}, "training.epochs=1").summary
    assert (done["trials"], "left" in done) == (2, False)
    assert [row["status"] for row in read_lines("found/trials.jsonl")] == ["finished", "finished"]
