"""``rnncond store use``: a rollback in one command, and what it refuses."""

from __future__ import annotations

import pytest

from feature_store import Store
from feature_store.maintenance import compact
from pipelines.errors import UserError
from pipelines.verbs.store.current import use
from tests.worlds.command import rnncond
from tests.worlds.feature_rows import commit, dataset, ids


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """The fingerprints of an older and a newer set of the store s."""
    monkeypatch.chdir(tmp_path)
    made = [dataset(Store("s")), dataset(Store("s"), backbone="newer")]
    for one in made:
        with one.begin() as term:
            commit(term, ids(0, 3))
    return [one.fingerprint for one in made]


def test_a_rollback_and_forward_again(sets):
    older, newer = sets
    Store("s").completed(Store("s").open(newer))
    outcome = use("s", older[:6])
    assert outcome.summary == {"store": "s", "kind": "features", "current_set": older, "rows": 3, "before": newer}
    assert f"rnncond store use s {newer}" in outcome.hint
    assert Store("s").completed(Store("s").open(newer)).fingerprint == older  # the next night
    assert use("s", "newest").summary["current_set"] == newer
    assert Store("s").completed(Store("s").open(older)).fingerprint == older


@pytest.mark.parametrize("known", [True, False], ids=["completed", "of an earlier version"])
def test_looking_after_the_older_set_makes_it_no_newer(sets, known):
    older, newer = (Store("s").open(fingerprint) for fingerprint in sets)
    for one in (older, newer):
        with one.begin() as term:
            commit(term, ids(3, 5))
    if known:
        Store("s").completed(newer)
    use("s", older.fingerprint)
    compact(older)
    assert all(part.replaces for part in older.snapshot().parts)
    assert use("s", "newest").summary["current_set"] == newer.fingerprint


def test_a_set_that_a_run_completes_while_another_is_pinned_is_the_newest(sets):
    older, newer = sets
    Store("s").completed(Store("s").open(newer))
    use("s", newer)
    Store("s").completed(Store("s").open(older))  # a run went on with the older model, after the newer one's
    assert Store("s").current("features").fingerprint == newer
    assert use("s", "newest").summary["current_set"] == older


def test_the_command_says_which_sets_there_are(sets, capsys):
    assert rnncond("store", "use", "s", "beef") == 2
    assert all(fingerprint in capsys.readouterr().err for fingerprint in sets[:1])
    assert rnncond("store", "use", "s", sets[0]) == 0
    capsys.readouterr()
    assert rnncond("store", "info", "s") == 0
    assert "1 parts" in (shown := capsys.readouterr().out) and ", current, pinned" in shown


def test_nothing_to_use(tmp_path, sets):
    Store(tmp_path / "empty").create()
    dataset(Store(tmp_path / "begun")).begin().close()
    with pytest.raises(UserError, match="No set in"):
        use(str(tmp_path / "begun"), "newest")
