"""What Ray Tune is told of a search that goes on: which trials are left, and what the others reached."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import ClassVar

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from pipelines.config.search_space import read_search
from pipelines.tuning.algorithms import left, optuna, population, scheduler
from pipelines.tuning.trials import Record

RATE = "training.learning_rate"


def search_of(*overrides):
    data = ("data.store=features", "data.captions=captions.jsonl", "training.epochs=9")
    space = f"tune={{trials: 4, asha: {{grace_epochs: 1, reduction: 3}}, space: {{{RATE}: {{log: [1e-4, 1e-2]}}}}}}"
    return read_search("show_tell.small", [*data, space, *overrides])


def record(name, status, *scores, rate=1e-3):
    lines = [{"epoch": epoch, "val_loss": 1.0, "CIDEr": score} for epoch, score in enumerate(scores, 1)]
    return Record(name, {RATE: rate}, status, {}, lines)


def test_a_new_search_has_all_trials_left():
    assert [name for name, _ in left(search_of("tune.algorithm=random"), [])] == ["000", "001", "002", "003"]


@pytest.mark.parametrize("bounds", [[0.2, 0.6], [0.1, 0.7], [0, 0.3]])
def test_tenths_are_tenths_to_optuna(bounds):
    search = search_of(f"tune.space={{model.dropout: {{uniform: {bounds}, step: 0.1}}}}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optuna(search, [])


def test_trials_under_way_come_first_with_their_own_values_and_done_ones_not():
    search = search_of("tune.algorithm=random")
    earlier = [record("000", "finished", 1), record("001", "failed"), record("002", "running", 1, rate=5e-3)]
    assert left(search, earlier) == [("002", {RATE: 5e-3}), ("003", search.drawn(3))]
    assert left(search_of(), earlier) == [("002", {RATE: 5e-3}), ("003", None)]
    assert left(search_of("tune.trials=5"), earlier)[1:] == [("003", None), ("004", None)]


def test_a_trial_under_way_is_brought_to_its_end_also_where_fewer_are_asked_for():
    earlier = [record("000", "finished", 1), record("001", "finished", 1), record("003", "running", 1, rate=5e-3)]
    assert left(search_of("tune.algorithm=random", "tune.trials=2"), earlier) == [("003", {RATE: 5e-3})]
    assert left(search_of("tune.trials=2"), earlier) == [("003", {RATE: 5e-3})]


def test_a_grid_goes_on_where_it_was():
    search = search_of("tune={algorithm: grid, space: {model.hidden: [8, 16, 24]}}")
    assert left(search, [record("001", "stopped", 1)]) == [("000", {"model.hidden": 8}), ("002", {"model.hidden": 24})]


def decision(asha, epoch, score):
    trial = SimpleNamespace(trial_id="new")
    asha.on_trial_add(None, trial)
    return asha.on_trial_result(None, trial, {"epoch": epoch, "score": score})


def test_asha_remembers_what_earlier_trials_reached_at_each_rung():
    earlier = [record("000", "finished", 1, 5, 6, 9), record("001", "stopped", 4), record("002", "stopped", 2)]
    # Of 1, 4 and 2 after the first epoch the upper third begins at 8/3; after the third epoch there is only 6.
    assert decision(scheduler(search_of(), earlier), 1, 2.6) == TrialScheduler.STOP
    assert decision(scheduler(search_of(), earlier), 1, 2.7) == TrialScheduler.CONTINUE
    assert decision(scheduler(search_of(), earlier), 3, 5.9) == TrialScheduler.STOP
    assert decision(scheduler(search_of(), earlier), 3, 6.1) == TrialScheduler.CONTINUE
    assert decision(scheduler(search_of(), []), 1, -9) == TrialScheduler.CONTINUE
    assert decision(scheduler(search_of(), earlier), 9, 99) == TrialScheduler.CONTINUE


def test_the_score_is_the_best_so_far_and_of_losses_the_lowest():
    assert [one["score"] for one in record("000", "finished", 1, 5, 3).reports("CIDEr")] == [1, 5, 5]
    lines = [{"epoch": epoch, "val_loss": loss} for epoch, loss in ((1, 2.0), (3, 3.0), (4, 1.0))]
    lines.insert(1, {"epoch": 2})
    found = Record("000", {}, "finished", {}, lines)
    assert [(one["epoch"], one["score"]) for one in found.reports("loss")] == [(1, -2), (3, -2), (4, -1)]
    assert found.best("loss")["epoch"] == 4


def test_tpe_knows_what_was_reached_and_begins_with_what_was_under_way():
    earlier = [record("000", "finished", 3, 7, 6), record("001", "failed"), record("002", "running", 1, rate=5e-3)]
    found = optuna(search_of(), earlier)
    assert [(trial.params, trial.value) for trial in found._ot_study.trials if trial.value is not None] == [
        ({f"params/{RATE}": 1e-3}, 7)
    ]
    assert found.suggest("first") == {"params": {RATE: 5e-3}}
    fresh = found.suggest("second")["params"][RATE]
    assert 1e-4 <= fresh <= 1e-2 and fresh != 5e-3
    assert optuna(search_of(), earlier[:1]).suggest("x") != optuna(search_of(), []).suggest("x")


class Paused:
    """As much of a trial as a scheduler looks at."""

    status, experiment_tag = Trial.PAUSED, ""
    config: ClassVar = {}
    last_result: ClassVar = {"epoch": 2, "score": 1.0}
    temporary_state, checkpoint = SimpleNamespace(saving_to=None), None
    run_metadata = SimpleNamespace(
        checkpoint_manager=SimpleNamespace(checkpoint_config=SimpleNamespace(num_to_keep=None))
    )

    def is_finished(self) -> bool:
        return False


@pytest.mark.parametrize(("epochs", "together"), [((), 2), ((1, 2), 2), ((3, 2), 4), ((4, 4), 4), ((5, 4), 6)])
def test_a_population_that_goes_on_meets_where_none_has_been_compared(epochs, together):
    search = search_of("tune.asha=null", "tune.algorithm=pbt")
    earlier = [record(f"{number:03d}", "running", *range(epoch)) for number, epoch in enumerate(epochs)]
    trials = [Paused() for _ in range(2)]
    controller = SimpleNamespace(search_alg=None, get_live_trials=lambda: trials, get_trials=lambda: trials)
    found = population(search, earlier)
    for trial in trials:
        found.on_trial_add(controller, trial)
    epoch = 0
    while found.on_trial_result(controller, trials[0], {"epoch": epoch, "score": 1}) == TrialScheduler.CONTINUE:
        epoch += 1
    assert epoch == together


def test_a_population_does_not_wait_for_a_trial_that_has_failed():
    found, trials = population(search_of("tune.asha=null", "tune.algorithm=pbt"), []), [Paused(), Paused(), Paused()]
    controller = SimpleNamespace(search_alg=None, get_live_trials=lambda: trials, get_trials=lambda: trials)
    for trial in trials:
        found.on_trial_add(controller, trial)
    for trial in trials[:2]:
        found.on_trial_result(controller, trial, {"epoch": 2, "score": 1.0})
    assert found.choose_trial_to_run(controller) is trials[2]
    trials.pop()
    assert found.choose_trial_to_run(controller) in trials
