"""Pruning, certifying and the change of the current set, killed with SIGKILL at each step, leave the store whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from feature_store import Store, verify
from feature_store.prune import prune
from tests.faults.test_store_kill import dying
from tests.worlds.feature_rows import commit, dataset, ids

GONE = ids(5, 15)


def act(root: str, what: str, die_at: int) -> None:
    """Do ``what`` to the store; die at step ``die_at`` of its syncs and renames."""
    from pipelines.verbs.store import certificate

    store = Store(root)
    made = store.dataset("features", {"backbone": "drawn", "dtype": "float16"}, store.datasets()[0].schema)
    os.fsync, os.replace = dying(die_at, os.fsync, os.replace)
    if what == "prune":
        prune(made, GONE)
    elif what == "use":
        store.use(made)
    else:
        certificate.write(made, {"schema": 1, "set": made.fingerprint, "sha256": ""}, None)


def killed(root: Path, what: str, die_at: int) -> None:
    call = f"from tests.faults import test_current_kill; test_current_kill.act({str(root)!r}, {what!r}, {die_at})"
    paths = ":".join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run([sys.executable, "-c", call], env={"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, timeout=120)
    assert done.returncode == -signal.SIGKILL


@pytest.fixture
def made(tmp_path):
    """A set of three parts, and another of its kind that readers get."""
    made, other = dataset(Store(tmp_path / "s")), dataset(Store(tmp_path / "s"), backbone="other")
    for one in (made, other):
        with one.begin() as term:
            for start in range(0, 30, 10):
                commit(term, ids(start, start + 10), [f"x{start}"])
    other.store.use(other)
    return made


@pytest.mark.parametrize("step", [0, 4, 9, 12])
def test_pruning_goes_on_where_it_was_killed(made, tmp_path, step):
    """A step before its term, in its beginning, and in the commits of the two parts that it changes."""
    killed(tmp_path / "s", "prune", step)
    assert verify(made).problems == []
    left = set(made.snapshot().ids(include_failures=False).to_pylist())
    assert set(ids(0, 30)) - set(GONE) <= left <= set(ids(0, 30))
    prune(made, GONE)
    assert set(made.snapshot().ids(include_failures=False).to_pylist()) == set(ids(0, 30)) - set(GONE)
    assert made.snapshot().failed == 3 and verify(made).problems == []


@pytest.mark.parametrize("step", range(6))
def test_readers_get_one_set_or_the_other(made, tmp_path, step):
    """The announcement is synced, renamed, and its folder synced; and then the file. What a killed process has
    announced hinders nobody."""
    before = made.store.current("features").fingerprint
    killed(tmp_path / "s", "use", step)
    now = made.store.open(kind="features").fingerprint
    assert now == (made.fingerprint if step == 5 else before)
    made.store.use(made)
    assert made.store.open(kind="features").fingerprint == made.fingerprint
    assert made.files.names("current") == ["features.json"]


@pytest.mark.parametrize("step", range(3))
def test_a_certificate_is_there_whole_or_not_at_all(made, tmp_path, step):
    killed(tmp_path / "s", "certify", step)
    path = tmp_path / "s/certificates" / f"{made.fingerprint}.json"
    assert path.exists() == (step == 2)
    if path.exists():
        assert json.loads(path.read_text())["set"] == made.fingerprint
    assert len(Store(tmp_path / "s").datasets()) == 2
