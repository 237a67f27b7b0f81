"""A batch verb that is killed while it writes a set of a store."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from feature_store import Snapshot, Store, verify
from tests.worlds.nodes import ACTOR, Nodes, await_


class Writing:
    """The command on ``nodes``, begun. ``finish`` holds what it leaves to what there was before."""

    def __init__(self, nodes: Nodes, command: Callable[..., subprocess.Popen], words: list[str], out: Path) -> None:
        self.nodes, self.out = nodes, out
        self.before = committed(out) if entries(out) else None
        self.driver = command(*words)

    def runs(self) -> bool:
        return self.driver.poll() is None

    def is_killable(self) -> bool:
        assert self.runs(), f"ended before it was killed: {self.driver.communicate()}"
        return True

    def await_parts(self, more: int) -> None:
        enough = entries(self.out) + more
        await_(lambda: entries(self.out) >= enough, self.is_killable)

    def kill(self, kind: str) -> None:
        if kind == "driver":
            self.driver.kill()
            self.driver.communicate()
            return
        actor, node = self.nodes.await_process(ACTOR, self.is_killable)
        if kind == "actor":
            actor.kill()
        else:
            self.nodes.kill(node)

    def finish(self, ids: set[str], failed: set[str]) -> Snapshot:
        """Await the end: all of ``ids`` are there, and this run did not compute what was there before."""
        printed, said = self.driver.communicate(timeout=600)
        assert self.driver.returncode == (3 if failed else 0), said
        summary, now = json.loads(printed.splitlines()[-1]), committed(self.out)
        assert set(now.ids().to_pylist()) == ids
        assert set(now.failures()[0].to_pylist()) == failed
        done = self.before.rows if self.before else 0
        assert (summary["already_done"], summary["computed"]) == (done, now.rows - done)
        check_kept(self.before, now)
        return now


def entries(out: Path) -> int:
    """In the ledgers of all terms."""
    return len(list(out.glob("sets/*/ledger/*/*-*.json")))


def committed(out: Path) -> Snapshot:
    """Every id once, and all files as they were written."""
    dataset = Store(out).open()
    assert verify(dataset).problems == []
    snapshot = dataset.snapshot()
    ids = snapshot.ids().to_pylist()
    assert len(set(ids)) == len(ids)
    return snapshot


def check_kept(before: Snapshot | None, now: Snapshot | None) -> None:
    """What was committed before stands in its own files."""
    if before is not None:
        assert {part.file for part in before.parts} <= {part.file for part in now.parts}
