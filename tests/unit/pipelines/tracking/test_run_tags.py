"""What a run in MLflow says of how it came to be."""

from __future__ import annotations

import subprocess
import sys

from pipelines.config.recipe import read_recipe
from pipelines.tracking import run_tags as module
from pipelines.tracking.run_tags import commit_of, dataset, run_name, run_tags
from tests.worlds import corpora

CAPTIONS = read_recipe("show_tell.small", ["data.store=/s", "data.captions=/c.jsonl"])


def test_a_run_is_called_by_its_folder_and_its_system():
    assert run_name(CAPTIONS, "show_tell.small") == "show_tell.small"
    assert run_name(CAPTIONS, "nightly") == "show_tell nightly"


def test_the_data_are_named(tmp_path):
    assert dataset(CAPTIONS) == "/c.jsonl (train), pooled features of /s"
    pairs = read_recipe("encdec_attention.small", [*corpora.make_text(tmp_path), *corpora.TINY])
    assert dataset(pairs) == f"{tmp_path}/source.txt and {tmp_path}/target.txt"


def test_a_commit_is_that_which_git_says(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    assert commit_of(tmp_path) is None
    subprocess.run([*git, "init", "-q"], check=True)
    assert commit_of(tmp_path) is None  # of a repository without a commit
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    said = subprocess.run([*git, "log", "--format=%H"], check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / "inside").mkdir()
    assert commit_of(tmp_path / "inside") == said and len(said) == 40
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(tmp_path) is None  # without git


def test_the_tags_that_mlflows_pages_show(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "commit_of", lambda folder: "c" * 40)
    monkeypatch.setattr(module.getpass, "getuser", lambda: "ada")
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/rnncond", "train", "a recipe.yaml", "seed=2"])
    tags = run_tags(CAPTIONS)
    assert tags["mlflow.user"] == "ada" and tags["mlflow.source.git.commit"] == "c" * 40
    assert tags["mlflow.source.name"] == "rnncond train 'a recipe.yaml' seed=2"
    assert (tags["mlflow.source.type"], tags["rnncond.system"]) == ("LOCAL", "show_tell")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "nightly.py"), "--secret"])
    assert (run_tags(CAPTIONS)["mlflow.source.type"], run_tags(CAPTIONS)["mlflow.source.name"]) == ("JOB", "nightly.py")


def test_what_is_not_known_is_left_out(monkeypatch):
    def nobody():
        raise KeyError("uid not found")

    monkeypatch.setattr(module.getpass, "getuser", nobody)
    monkeypatch.setattr(module, "commit_of", lambda folder: None)
    assert not run_tags(CAPTIONS).keys() & {"mlflow.user", "mlflow.source.git.commit"}
