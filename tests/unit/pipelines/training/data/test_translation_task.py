"""Translations as a task: what its data are known by, and what cannot be learnt from."""

from __future__ import annotations

import pytest

from pipelines.config.recipe import read_recipe
from pipelines.errors import UserError
from pipelines.training.data.task import prepare
from tests.worlds.corpora import LETTERS, TINY, make_text, reverse, sentences, write
from tests.worlds.engine import without_ray


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with without_ray():
        yield make_text(tmp_path_factory.mktemp("text"), pairs=120)


def task_of(*overrides: str):
    return prepare(read_recipe("encdec_bidirectional.small", [*overrides, *TINY]))


@pytest.mark.heavy
def test_a_task_is_the_pairs_of_its_files(world):
    task, about = task_of(*world)
    lines = sentences(9, seed=1)
    assert (about["pairs"], about["pairs_left_out"], task.count()) == (120, 0, 9)
    assert task.sizes() == {"source_vocab_size": 4 + len(LETTERS)}
    assert (task.sources, task.references) == (lines, [reverse(line) for line in lines])
    assert task.scores(dict(enumerate(task.references)))["chrF"] == pytest.approx(100)
    assert task.scores(dict.fromkeys(range(9), ""))["chrF"] == 0
    expected = {"id": "2", "source": lines[2], "translation": "x", "references": [reverse(lines[2])]}
    assert task.sample(2, "x") == expected


@pytest.mark.heavy
def test_the_same_text_elsewhere_is_the_same_data_and_other_text_is_not(world, tmp_path):
    def data_id(*overrides):
        return task_of(*overrides)[0].data_id

    elsewhere = make_text(tmp_path, pairs=120)
    assert data_id(*elsewhere) == data_id(*world)
    lines = (tmp_path / "validation_target.txt").read_text().splitlines()
    other = f"data.validation_target={write(tmp_path / 'other', lines[::-1])}"
    assert data_id(*elsewhere, other) != data_id(*world)


def test_what_cannot_be_learnt_from(world, tmp_path):
    files = dict(override.split("=") for override in world)
    other = [f"data.source={files['data.source']}", f"data.target={files['data.validation_target']}"]
    with pytest.raises(UserError, match=r"has 120 lines and .* has 9"):
        task_of(*world, *other)
    with pytest.raises(UserError, match="there is no file"):
        task_of(*world, "data.source=nowhere.en")
    with pytest.raises(UserError, match=r"No pair of .* all 120 have"):
        task_of(*world, f"data.target={write(tmp_path / 'blank', [''] * 120)}")
