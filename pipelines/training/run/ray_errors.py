"""What Ray raises when a training or a search ends badly, as one message for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
    RpcError,
    RuntimeEnvSetupError,
    TaskUnschedulableError,
    WorkerCrashedError,
)

from pipelines.errors import Fault, UserError, exit_code, user_message

# torch is not loaded here: the process that writes run folders needs this module, and begins seconds sooner without.
LOST = (
    RayActorError, WorkerCrashedError, NodeDiedError, LocalRayletDiedError, ObjectLostError, RaySystemError, RpcError,
    TaskUnschedulableError,
)  # fmt: skip
"""A process, a node or the way to it is gone; another attempt may do better."""
LOST_BY_NAME = {
    "WorkerGroupStartupFailedError", "WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError",
    "ActorUnschedulableError", "WorkerHealthCheckTimeoutError", "PreemptionError", "NCCLHangError", "DistError",
}  # fmt: skip
"""Likewise, with the classes that derive from them: Ray Train keeps them in modules of its own, and the last is
torch.distributed's."""
PARTS = ("controller_failure", "health_check_failure", "cause", "_base_exc", "__cause__")
"""Where exceptions of Ray keep the one that they were made of."""
PEER_LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""Marks of the errors by which a rank learns that another is gone. PyTorch has no class for all of them."""
RESUME = "Run the same command again to resume from the last checkpoint."
NO_MEMORY = (
    "Ray killed workers because their node had no memory left. Put fewer of them on a node (a larger "
    f"cluster.cpus_per_worker, fewer cluster.workers or tune.concurrent), or take larger nodes. {RESUME}"
)


def causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and the exceptions that it wraps, workers' own included, from the outside in."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        parts = [getattr(link, name, None) for name in PARTS] + list(getattr(link, "worker_failures", {}).values())
        waiting += [part for part in parts if isinstance(part, BaseException)]


def workers_lost(error: BaseException) -> bool:
    """Whether processes or nodes were lost, and nothing worse happened: what another attempt may mend."""
    return any(
        isinstance(link, (*LOST, OutOfMemoryError)) or LOST_BY_NAME & {kind.__name__ for kind in type(link).__mro__}
        for link in causes(error)
    )


def explain(error: BaseException, reported: str | None = None) -> UserError:
    """What the user can do about a training, or a search, that Ray has given up.

    Args:
        reported: a worker's message about what only the user can put right.

    Raises:
        BaseException: ``error`` itself, where it is a defect.
    """
    if reported:
        return UserError(reported)
    links = list(causes(error))
    messages = [(exit_code(link), message) for link in links if (message := user_message(link))]
    if messages:
        code, message = min(messages, key=lambda one: one[0])  # what the user must mend comes before what time may mend
        return (Fault if code == Fault.code else UserError)(message)
    if any(isinstance(link, OutOfMemoryError) for link in links):
        return Fault(NO_MEMORY)
    for link in links:
        if isinstance(link, RuntimeEnvSetupError):
            return Fault(f"Ray could not make the workers' environment: {in_brief(link)}. {RESUME}")
    if workers_lost(error):
        return Fault(
            "More workers were lost than cluster.max_failures allows, or none could be started. Is there too little "
            f"memory, or are nodes away? {RESUME}"
        )
    if isinstance(error, RayError) and not isinstance(error, RayTaskError):
        return Fault(f"Ray failed: {in_brief(error)}. {RESUME}")
    raise error


def in_brief(error: BaseException) -> str:
    """The kind and the beginning of an error, in one line without a full stop."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(":. ")


@contextmanager
def user_errors() -> Iterator[None]:
    """In a process that trains: tell as the user's what is the user's, so that Ray need not try again.

    Raises:
        UserError: the process, or its GPU, has too little memory for the model and a batch.
        Fault: another rank is gone.
    """
    from torch import distributed

    from pipelines.engine.memory import is_out_of_memory

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise UserError(
                f"There is too little memory for the model and a batch: {in_brief(error)}. Lower "
                "training.images_per_batch or training.tokens_per_batch (and raise training.accumulate as much, for "
                "the same step), or model.hidden."
            ) from error
        has_peers = distributed.is_initialized() and distributed.get_world_size() > 1
        if has_peers and any(mark in str(error) for mark in PEER_LOST):
            raise Fault(f"A worker no longer reaches the others: {in_brief(error)}. {RESUME}") from error
        raise
