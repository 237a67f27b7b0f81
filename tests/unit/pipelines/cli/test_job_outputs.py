"""Outputs that would be lost with a job's copy of its working folder are refused before anything is sent."""

from __future__ import annotations

import pytest

from pipelines.cli import job_outputs
from pipelines.errors import UserError

KEPT = [
    ["store", "info", "store"],
    ["features", "photos", "--store", "s3://bucket/store"],
    ["features", "photos", "--store=/shared/store"],
    ["train", "show_tell.small", "data.store=s", "data.captions=c", "--out", "/shared/runs/one"],
    ["train", "show_tell.small", "--out", "s3://bucket/runs/one"],
    ["evaluate", "--model", "models:/captioner@champion"],
    ["evaluate", "--model", "runs/one", "--out", "/shared/scores"],
]
LOST = [
    (["features", "photos", "--store", "store"], r"--store: found store, .* absolute path, or s3:// or gs://"),
    (["train", "show_tell.small"], r"--out is missing: train would write .* absolute path"),
    (["train", "show_tell.small", "--out", "runs/one"], r"--out: found runs/one"),
    (["evaluate", "--model", "runs/one"], r"--model: found runs/one, and the results would lie beside it"),
    (["caption", "photos", "--model", "m", "--out", "/shared/o", "--text", "lines.txt"], r"--text: found lines\.txt"),
]


@pytest.mark.parametrize("words", KEPT, ids=" ".join)
def test_what_is_kept_is_let_through(words):
    job_outputs.refuse_lost(words)


@pytest.mark.parametrize(("words", "message"), LOST, ids=[" ".join(words) for words, _ in LOST])
def test_what_would_be_lost_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        job_outputs.refuse_lost(words)


def test_every_stage_of_a_pipeline_is_looked_at(tmp_path):
    (tmp_path / "nightly.yaml").write_text(
        "out: /shared/nightly\nstages:\n  features:\n    args: {images: photos, store: store}\n"
        "  caption:\n    args: {images: photos, model: models:/m@champion, out: captions}\n"
    )
    with pytest.raises(UserError) as caught:
        job_outputs.check(["run", "nightly.yaml"], str(tmp_path), ())
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "stages.features: --store" in lines[1] and "stages.caption: --out" in lines[2]


def test_a_training_that_names_no_server_is_warned_of(capsys):
    words = ["train", "show_tell.small", "--out", "/shared/run"]
    job_outputs.warn_of_tracking([words], ())
    assert "MLFLOW_TRACKING_URI" in capsys.readouterr().err
    for more, env in ((["tracking.uri=http://h:5000"], ()), ((), ("MLFLOW_TRACKING_URI",))):
        job_outputs.warn_of_tracking([[*words, *more]], env)
    job_outputs.warn_of_tracking([["store", "info", "s"]], ())
    assert capsys.readouterr().err == ""
