"""What changed between two sets: each input once, under what happened to it."""

from __future__ import annotations

import pytest

from feature_store import Store
from pipelines.errors import UserError
from pipelines.evaluation.differences import difference, examples
from tests.worlds.captioned import caption_set
from tests.worlds.feature_rows import commit, dataset


@pytest.fixture
def store(tmp_path):
    caption_set(tmp_path / "s", "old", {"a": "a dog", "b": "a cat", "c": "a cow", "d": "a hen"}, score=-1.0)
    caption_set(tmp_path / "s", "new", {"b": "a cat", "c": "two cows", "d": "", "e": "an owl"}, score=-0.5)
    return Store(tmp_path / "s")


def names(store):
    return {dataset.recipe["model"]: dataset.fingerprint for dataset in store.datasets()}


def test_each_input_is_there_once(store):
    sets = names(store)
    found = difference(store, sets["old"], sets["new"])
    rows = {row["id"]: row for row in found.changed.to_pylist()}
    assert {id_: row["change"] for id_, row in rows.items()} == {
        "a": "removed",
        "c": "changed",
        "d": "changed",
        "e": "added",
    }
    assert (rows["c"]["before"], rows["c"]["after"], rows["d"]["after"]) == ("a cow", "two cows", "")
    assert rows["a"]["after"] is None and rows["e"]["before"] is None and rows["e"]["uri"] == "images/e.jpg"
    counts = found.counts()
    assert [counts[name] for name in ("same", "changed", "added", "removed")] == [1, 2, 1, 1]
    assert found.moves.tolist() == [0.5] * 3 and counts["mean_score_move"] == 0.5
    assert [row["id"] for row in examples(found, 2)] == ["a", "e"] and len(examples(found, 9)) == 4


def test_captions_of_another_version_of_a_picture_are_told_apart(tmp_path):
    """Whatever is said of it; a picture whose version is not known is taken for the same."""
    said = {"a": "a dog", "b": "a cat", "c": "a cow", "d": "a hen"}
    caption_set(tmp_path, "old", said)
    versions = {"a": "2", "b": "2", "c": None}
    caption_set(tmp_path, "new", said | {"b": "two cats", "c": "two cows"}, score=-0.5, versions=versions)
    sets = names(store := Store(tmp_path))
    found = difference(store, sets["old"], sets["new"])
    assert [(row["id"], row["change"]) for row in found.changed.to_pylist()] == [
        ("a", "input changed"),
        ("b", "input changed"),
        ("c", "changed"),
    ]
    counts = found.counts()
    assert [counts[name] for name in ("same", "changed", "input_changed")] == [1, 1, 2]
    assert found.moves.tolist() == [0.5] * 2


def test_a_set_does_not_differ_from_itself(store):
    old = names(store)["old"]
    found = difference(store, old, old[:5])
    assert found.same == 4 and not found.changed.num_rows and examples(found, 5) == []


def test_captions_are_not_compared_with_features(store, tmp_path):
    old = names(store)["old"]
    features = dataset(Store(tmp_path / "s"))
    with features.begin() as term:
        commit(term, ["a"])
    with pytest.raises(UserError, match=r"has captions, .* has features"):
        difference(store, old, features.fingerprint)
