"""What a search will take, by some steps of some of its trials."""

from __future__ import annotations

import json

import pytest

from pipelines.config.search_space import read_search
from pipelines.config.tuning_sections import Asha
from pipelines.training.dry_run import Cost
from pipelines.tuning.dry_run import epochs_with_asha, of_all, settings_to_try
from pipelines.verbs import tune
from tests.worlds.training import TINY, make_world

WORDS = ["data.store=s", "data.captions=c"]


def test_successive_halving_trains_a_share_of_the_epochs():
    """Of 9 trials all have 1 epoch, 3 go on to 3 epochs, and 1 to 9: 9 + 3 * 2 + 6 = 21 of 81 epochs."""
    assert epochs_with_asha(Asha(grace_epochs=1, reduction=3), 9) == pytest.approx(21 / 81)
    assert epochs_with_asha(Asha(grace_epochs=9), 9) == 1
    assert epochs_with_asha(None, 9) == 1


def test_trials_take_turns():
    """10 trials, 4 at a time, of 100 and 300 s: 2.5 rounds of 200 s."""
    costs = [Cost(100, 1, 50, 10, 1), Cost(300, 1, 150, 30, 3)]
    whole, error = of_all(costs, 10, 4)
    assert (whole.seconds, whole.processor, whole.written, whole.kept) == (500, 250, 200, 20)
    assert error == pytest.approx(2.5 * 100)
    assert of_all(costs, 2, 4)[0].seconds == 200


def test_the_trials_that_are_tried_are_trials_of_the_search():
    grid = {"algorithm": "grid", "space": {"model.hidden": [8, 16, 32]}}
    search = read_search("show_tell.small", [*WORDS, "tune=null", f"tune={json.dumps(grid)}"])
    assert settings_to_try(search, 1) == {"000": {"model.hidden": 8}, "001": {"model.hidden": 32}}
    drawn = read_search("show_tell.small", [*WORDS, "tune.algorithm=random"])
    assert settings_to_try(drawn, 99) == {f"{n:03d}": drawn.drawn(n) for n in range(4)}


@pytest.mark.ray
def test_a_dry_run_of_a_search_keeps_nothing(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = {"trials": 6, "algorithm": "random", "asha": {}, "space": {"model.hidden": [8, 16]}}
    words = [*make_world(tmp_path), *TINY, "tune=null", f"tune={json.dumps(section)}"]
    before = sorted(tmp_path.rglob("*"))
    shown = tune.run("show_tell.small", words, out="search", dry_run=True, sample=2).summary
    assert sorted(tmp_path.rglob("*")) == before
    assert (shown["trials"], shown["epochs a trial"], shown["trials tried"]) == (6, 3, 2)
    assert shown["hours, if asha ends all that it may"] < shown["hours"]
