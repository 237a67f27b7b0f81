"""Wait for room on a cluster that is full, or that has no workers yet, and say what for.

What waits is a task of a worker's size that does nothing. Ray's autoscaler acts on it as on any other work that finds
no room.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import ray
from ray._private import state
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # made by Cython
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]  # made by protoc
from ray.util.placement_group import placement_group, remove_placement_group

from pipelines.cluster import connection
from pipelines.cluster.resources import AUTOMATIC, Cluster, NoRoom, Plan, describe_size, places, processors
from pipelines.console import plural, tell
from pipelines.errors import Fault, UserError

if TYPE_CHECKING:  # recipes load torch
    from pipelines.config.sections import ClusterSection

POLL_SECONDS = 10
AGAIN_SECONDS = 600
"""Between two messages."""


def has_room(plan: Plan) -> bool:
    """Whether a node has a worker's CPUs and GPUs free."""
    free = state.available_resources_per_node().values()
    return any(node.get("CPU", 0) >= plan.cpus and node.get("GPU", 0) >= plan.gpus for node in free)


def wait_for_room(cluster: Cluster, plan: Plan, seconds: float) -> bool:
    """Return when a worker of ``plan`` has room; True where that had to be waited for, so that nodes may have come.

    Raises:
        Fault: there was none for ``seconds``.
        UserError: no node that the autoscaler may start would have room.
    """
    if has_room(plan):
        return False
    since, told = time.time(), 0.0
    probe = ray.remote(num_cpus=plan.cpus, num_gpus=plan.gpus, max_retries=-1)(nothing).remote()
    try:
        while not ray.wait([probe], timeout=min(POLL_SECONDS, max(since + seconds - time.time(), 0)))[0]:
            now = time.time()
            if is_infeasible(plan):
                raise UserError(
                    f"No node of the cluster, nor one that its autoscaler may start, holds a worker with "
                    f"{plan.describe_worker()}. It has {cluster.describe()}. Ask for less (--workers, --gpus 0), or "
                    "give the cluster such nodes."
                )
            if now - since >= seconds:
                raise Fault(
                    f"No worker found room for {seconds:g} seconds (--wait): {plan.describe()}. The cluster has "
                    f"{cluster.describe()}. See `ray status` on its head: others hold it, or no node could be started. "
                    "The same command tries again."
                )
            if now - told > AGAIN_SECONDS:
                told = now
                tell(message(cluster, plan, since, since + seconds))
        ray.get(probe)
    except BaseException:
        # Not one that has ended: where a task ends while it is cancelled, Ray aborts this process.
        ray.cancel(probe)
        raise
    if told:
        tell(f"There is room now, after {(time.time() - since) / 60:.1f} min.")
    return True


Parts = TypeVar("Parts")


def share_out_when_there(
    share_out: Callable[[Cluster], Parts], cluster: Cluster, asked: ClusterSection, seconds: float
) -> Parts:
    """What ``share_out`` makes of a cluster; of another's that has no workers yet, and of which nobody knows what may
    come, as soon as workers have.

    Args:
        asked: of a recipe, for which nodes are waited.

    Raises:
        UserError: as ``share_out``.
        Fault: nothing came for ``seconds``.
    """
    try:
        return share_out(cluster)
    except NoRoom:
        if not cluster.joined or cluster.types or places(cluster, AUTOMATIC[-1], 0):
            raise
    each = {"CPU": asked.cpus_per_worker or 1, "GPU": asked.gpus_per_worker or 0}
    workers = asked.min_workers or asked.workers
    size = describe_size(each["CPU"], each["GPU"])
    tell(
        f"Waiting for nodes, for {seconds:g} seconds at most (--wait): the cluster has {cluster.describe()}, and the "
        f"training asks for {workers} {plural('worker', workers)} with {size}."
    )
    # What Ray Train asks for, too; the autoscaler acts on it, and it ends with this process.
    group = placement_group([{name: value for name, value in each.items() if value}] * workers)
    try:
        until = time.monotonic() + seconds
        while not group.wait(min(POLL_SECONDS, max(until - time.monotonic(), 0.01))):
            if time.monotonic() >= until:
                raise Fault(
                    f"No worker came for {seconds:g} seconds (--wait): {workers} with {size} each. The cluster has "
                    f"{connection.running().describe()}. See `ray status` on its head. The same command tries again."
                )
    finally:
        remove_placement_group(group)
    return share_out(connection.running())


def message(cluster: Cluster, plan: Plan, since: float, until: float) -> str:
    """What is waited for, since when, and how long still."""
    began, ends = (time.strftime("%H:%M:%S", time.localtime(at)) for at in (since, until))
    free = ray.available_resources()
    what = f"{processors(free.get('CPU', 0), free.get('GPU', 0))} of it are free"
    return (
        f"Waiting for room since {began}, until {ends} at most (--wait): workers are planned, {plan.describe()}. The "
        f"cluster has {cluster.describe()}; {what}. Work begins when others end theirs, or nodes come up."
    )


def is_infeasible(plan: Plan) -> bool:
    """Whether the autoscaler reports that no node it knows of would hold a worker. Only that of version 2 does."""
    reply = GetClusterStatusReply()
    reply.ParseFromString(GcsClient(ray.get_runtime_context().gcs_address).get_cluster_status(timeout_s=POLL_SECONDS))
    wanted = {"CPU": float(plan.cpus)} | ({"GPU": float(plan.gpus)} if plan.gpus else {})
    requests = reply.autoscaling_state.infeasible_resource_requests
    return any(dict(request.resources_bundle) == wanted for request in requests)


def nothing() -> None:
    """Take a worker's room for a moment."""
