"""A writer killed with SIGKILL, at random moments and at every step of a commit, loses and repeats nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from feature_store import Dataset, Store, failure_schema, verify

IDS = [f"{number:05d}" for number in range(600)]
FAILING = set(IDS[::7])
SCHEMA = pa.schema([pa.field("image_id", pa.string(), nullable=False)])


def write(root: str, log: str, unit: int, die_at: int) -> None:
    """Commit what is missing in units of ``unit``, noted in ``log`` first; die at step ``die_at`` unless it is -1."""
    made = Store(root).dataset("lines", {"a": 1}, SCHEMA)
    with made.begin() as term:
        left = sorted(set(IDS) - set(made.snapshot().ids().to_pylist()))
        print("begun", flush=True)
        if die_at >= 0:
            os.fsync, os.replace = dying(die_at, os.fsync, os.replace)
        for start in range(0, len(left), unit):
            ids = left[start : start + unit]
            with open(log, "a") as computed:
                computed.write("".join(f"{id_}\n" for id_ in ids))
            rows = pa.table([pa.array([id_ for id_ in ids if id_ not in FAILING], pa.string())], schema=SCHEMA)
            failed = [{"image_id": id_, "uri": id_, "stage": "read", "reason": "r", "tries": 1} for id_ in ids]
            failed = pa.Table.from_pylist([row for row in failed if row["image_id"] in FAILING], failure_schema())
            term.handle.commit(term.handle.part_name(ids), rows, failed)


def dying(at: int, *calls):
    """``calls``, of which the one made as number ``at`` kills the process instead."""
    steps = iter(range(1 << 30))

    def counted(call):
        def count(*args):
            if next(steps) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args)

        return count

    return [counted(call) for call in calls]


def start(store: Path, log: Path, unit: int, die_at: int = -1) -> subprocess.Popen:
    arguments = f"{str(store)!r}, {str(log)!r}, {unit}, {die_at}"
    call = f"from tests.faults import test_store_kill; test_store_kill.write({arguments})"
    paths = ":".join([str(Path(__file__).parents[2]), *sys.path])
    environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", call], env=environment, stdout=subprocess.PIPE)


def sound(store: Path) -> Dataset:
    made = Store(store).open()
    assert verify(made).problems == []
    return made


def check_run(store: Path, log: Path, before: set[str]) -> set[str]:
    """What is committed after a run that began with ``before``, of which it must have computed nothing again."""
    computed = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    assert before.isdisjoint(computed) and len(set(computed)) == len(computed)
    ids = sound(store).snapshot().ids().to_pylist()
    assert len(set(ids)) == len(ids) and before <= set(ids) <= before | set(computed)
    return set(ids)


def finish(store: Path, log: Path, before: set[str]) -> None:
    write(str(store), str(log), 50, -1)
    assert check_run(store, log, before) == set(IDS)
    made = sound(store)
    snapshot = made.snapshot()
    assert set(snapshot.failures()["image_id"].to_pylist()) == FAILING
    named = {path for part in snapshot.parts for path in part.paths}
    assert {f"{path.parent.name}/{path.name}" for path in (store / made.folder).glob("[pf]*/*")} == named


def test_killed_at_random_moments(chance, tmp_path):
    store, log, committed, killed = tmp_path / "store", tmp_path / "log", set(), 0
    for _ in range(5):
        writer = start(store, log, 3)
        assert writer.stdout.readline() == b"begun\n"
        time.sleep(chance.uniform(0, 0.1))
        writer.kill()
        killed += writer.wait(60) == -signal.SIGKILL
        committed = check_run(store, log, committed)
    assert killed > 0
    finish(store, log, committed)


@pytest.mark.parametrize("step", range(12))
def test_killed_at_each_step_of_a_commit(tmp_path, step):
    """Rows, failures and entry are each synced and renamed, and their folder synced; then the next part begins."""
    store, log = tmp_path / "store", tmp_path / "log"
    assert start(store, log, 50, step).wait(60) == -signal.SIGKILL
    committed = check_run(store, log, set())
    assert len(committed) == 50 * (step >= 8)  # step 7 renames the entry
    finish(store, log, committed)
