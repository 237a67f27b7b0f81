"""A search of twelve trials finds a captioner that beats the recipe's, the champion until then, and that captions."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from feature_store import Store
from pipelines.files.jsonl import read_lines
from pipelines.verbs import caption, demo, evaluate, features, train, tune
from rnncond.checkpoint import load

PICTURES = {"train": 300, "val": 60, "test": 60}


@pytest.mark.slow
@pytest.mark.ray
def test_the_best_of_twelve_trials_beats_the_recipe_and_captions_as_champion(
    ray_cluster, tmp_path, monkeypatch, record_property
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(demo, "PICTURES", PICTURES)
    subject = demo.make_world(tmp_path, 0)
    features.run(str(subject.data), "store", subject.backbone, str(subject.weights))
    settings = ["data.store=store", f"data.captions={subject.data}", "text.max_length=32", "search.max_length=32"]
    settings += ["training.epochs=9", "training.early_stopping.patience=null", "tracking.system_metrics=false"]
    settings += ["tracking.registered_model=teller"]

    train.run("show_tell.small", settings, out="default")  # the champion that is to be beaten
    began = time.monotonic()
    searching = ["tune.trials=12", "tune.asha.grace_epochs=1"]
    outcome = tune.run("show_tell.small", [*settings, *searching], out="found")
    minutes = (time.monotonic() - began) / 60
    table = read_lines("found/trials.jsonl")
    assert len(table) == 12 and outcome.failed == 0
    assert sum(row["status"] == "stopped" for row in table) >= 4

    of_default, of_best = (evaluate.run(model=model, split="test").summary["CIDEr"] for model in ("default", "found"))
    assert of_best > of_default

    listing = demo.list_pictures(subject, Path())
    told = caption.run("models:/teller@champion", "told", str(listing), weights=str(subject.weights))
    assert told.failed == 0
    captions = Store("told").open(kind="captions")
    assert captions.recipe["model"] == load("found/best").model_id != load("default/best").model_id
    assert captions.snapshot().rows == PICTURES["test"]
    epochs = sum(row["epochs"] for row in table)
    print(f"{minutes:.1f} minutes, {epochs} epochs; CIDEr {of_default:.1f}, of the best {of_best:.1f}", outcome.summary)
    record_property("learnt", ("search", f"CIDEr {of_best:.1f}", f"the recipe's {of_default:.1f}"))
