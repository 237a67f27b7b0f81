"""Whether the machines of a cluster see a store that lies in a folder.

Where one does not, its workers would commit parts to a folder of the same name on their own disk, where nobody finds
them. Object storage is seen by all, and one machine sees itself: neither is asked.
"""

from __future__ import annotations

import os
import socket
import time

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from feature_store import Handle
from pipelines.cluster.resources import Plan
from pipelines.console import tell
from pipelines.errors import UserError

ANSWER_SECONDS = 60
"""For all machines to answer in; a process has to start on each."""
LATE_SECONDS = 5
"""That a network file system may take to show a new file."""


def refuse_hidden(handle: Handle, plan: Plan) -> None:
    """Find out whether all machines that ``plan`` may put workers on see the store of ``handle``, whose term has begun.

    Raises:
        UserError: some do not.
    """
    if not handle.files.local:
        return
    others = other_machines(plan)
    if not others:
        return
    # The driver has just written it, and no other store has a term of that name.
    answers = ask(mark_of(handle), others)
    if hidden := sorted(address for address, sees in answers.items() if not sees):
        raise hidden_from(handle.files.root, f"the cluster's machines {', '.join(hidden)} do")
    if silent := sorted(others.keys() - answers):
        tell(f"Whether {', '.join(silent)} see the store {handle.files.root} is not known: they did not answer.")


def mark_of(handle: Handle) -> str:
    """A file of the running term, which who sees it sees the store."""
    path: str = handle.files.full(handle.ledger.path(handle.term, "base.parquet"))
    return path


def refuse_unseen(marks: dict[str, str]) -> None:
    """In a worker, whose node may have come after the others were asked: refuse stores that it does not see.

    Args:
        marks: of each store's folder its ``mark_of``.

    Raises:
        UserError: one is not seen here.
    """
    for root, mark in marks.items():
        if not sees(mark):
            raise hidden_from(root, f"the machine {socket.gethostname()} does")


def hidden_from(root: str, whom: str) -> UserError:
    return UserError(
        f"The store {root} is a folder of the driver's machine that {whom} not see: what is computed there would be "
        "lost. Expected a place that all machines see: name one in object storage (s3://bucket/...), or in a shared "
        "file system that is mounted at the same path on each. For the text of a translator's training that is "
        "data.store."
    )


def other_machines(plan: Plan) -> dict[str, str]:
    """Machines beside this one with room for a worker: of each a node's id, by address."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    here = ray.get_runtime_context().get_node_id()
    home = next((node["NodeManagerAddress"] for node in nodes if node["NodeID"] == here), None)
    return {
        node["NodeManagerAddress"]: node["NodeID"]
        for node in nodes
        if node["NodeManagerAddress"] != home
        and node["Resources"].get("CPU", 0) >= plan.cpus
        and node["Resources"].get("GPU", 0) >= plan.gpus
    }


def ask(path: str, nodes: dict[str, str]) -> dict[str, bool]:
    """Whether the file ``path`` is there on ``nodes``, by address; without those that did not answer in time."""
    task = ray.remote(num_cpus=0)(sees)
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(path): address
        for address, node in nodes.items()
    }
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    answers = {}
    for promise in answered:
        try:
            answers[asked[promise]] = ray.get(promise)
        except RayError:  # the node has gone
            continue
    return answers


def sees(path: str) -> bool:
    """Whether the file is there, where this runs."""
    end = time.monotonic() + LATE_SECONDS
    while not (is_there := os.path.exists(path)) and time.monotonic() < end:
        time.sleep(0.5)
    return is_there
