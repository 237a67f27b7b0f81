"""The way in: which sets a store has, and which of them a reader gets."""

from __future__ import annotations

import json

import pytest

from feature_store import Store, StoreError
from tests.worlds.feature_rows import RECIPE, SCHEMA, commit, dataset, ids


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def test_nothing_is_created_before_a_writer_begins(tmp_path, store):
    made = dataset(store)
    assert store.datasets() == [] and made.snapshot().rows == 0 and not store.exists()
    assert list(tmp_path.iterdir()) == []


def test_sets_are_found_by_recipe_fingerprint_and_kind(store):
    with pytest.raises(StoreError, match=r"no store at .*: nothing is there"):
        store.open()
    first = dataset(store)
    first.begin().close()
    assert store.open().recipe == RECIPE and store.open().schema.equals(SCHEMA, check_metadata=True)
    second = dataset(store, backbone="other")
    second.begin().close()
    assert store.open(second.fingerprint[:6]).fingerprint == second.fingerprint
    with pytest.raises(StoreError, match=f"2 sets(.|\n)*{first.fingerprint}"):
        store.open()
    with pytest.raises(StoreError, match=f"no set of kind captions; it has(.|\n)*{second.fingerprint}"):
        store.open(kind="captions")
    assert {found.fingerprint for found in store.datasets()} == {first.fingerprint, second.fingerprint}


def test_a_recipe_with_other_columns_is_refused(store):
    dataset(store).begin().close()
    with pytest.raises(StoreError, match=r"column grid .* is missing"):
        store.dataset("features", RECIPE, SCHEMA.remove(6))
    with pytest.raises(StoreError, match="it is features by image_id, not captions by image_id"):
        store.dataset("captions", RECIPE, SCHEMA)


def test_a_newer_format_is_refused_with_both_numbers(store, tmp_path):
    dataset(store).begin().close()
    (tmp_path / "store/store.json").write_text(json.dumps({"format": 9}))
    for use in (store.datasets, store.open, lambda: dataset(store).begin()):
        with pytest.raises(StoreError, match="format 9; this version reads formats up to 1"):
            use()


def test_a_folder_with_something_else_in_it_is_no_place_for_a_store(tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(StoreError, match=r"not empty and no store \(it holds photo.jpg\)"):
        dataset(Store(tmp_path)).begin()
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.fixture
def two(store):
    """Two sets of one kind, and one of another."""
    made = [dataset(store), dataset(store, backbone="newer"), store.dataset("captions", RECIPE | {"a": 1}, SCHEMA)]
    for number, one in enumerate(made):
        with one.begin() as term:
            commit(term, ids(number, number + 2))
    return made


def test_readers_get_the_current_set(store, two):
    first, second, other = two
    assert store.current("features") is None
    store.use(first)
    assert store.open(kind="features").fingerprint == store.open("current", "features").fingerprint == first.fingerprint
    store.use(second)
    assert store.open(kind="features").fingerprint == second.fingerprint
    assert store.open(first.fingerprint).fingerprint == first.fingerprint  # whoever names a set gets that
    assert store.open(kind="captions").fingerprint == other.fingerprint
    with pytest.raises(StoreError, match=f"3 sets(.|\n)*{second.fingerprint}.* \\(current\\)"):
        store.open()
    with pytest.raises(StoreError, match=f"no set of kind features 00(.|\n)*{first.fingerprint}"):
        store.open("00", "features")


def test_a_run_makes_its_set_current_unless_another_was_chosen(store, two):
    first, second, _ = two
    assert store.completed(first).fingerprint == store.open(kind="features").fingerprint == first.fingerprint
    assert store.completed(second).fingerprint == store.open(kind="features").fingerprint == second.fingerprint
    store.use(first)
    assert store.completed(second).fingerprint == store.open(kind="features").fingerprint == first.fingerprint
    store.use(second, pinned=False)
    assert store.completed(first).fingerprint == first.fingerprint


def test_a_current_set_that_is_gone_is_no_reason_to_give_another(store, two, tmp_path):
    store.use(two[1])
    two[1].files.delete_folder(two[1].folder)
    with pytest.raises(StoreError, match=f"not there; it has:\n  {two[0].fingerprint}(.|\n)*store use"):
        store.open(kind="features")
    (tmp_path / "store/current/features.json").write_text('{"set": ')
    with pytest.raises(StoreError, match="is damaged"):
        store.open(kind="features")


def test_a_reader_that_is_changed_over_meanwhile_gets_one_set_or_the_other(store, two):
    """A file is put in place whole, so no moment has half of it."""
    first, second, _ = two
    seen = set()
    for number in range(50):
        store.use(two[number % 2])
        seen.add(store.open(kind="features").fingerprint)
        assert len(store.files.names("current")) == 1
    assert seen == {first.fingerprint, second.fingerprint}
