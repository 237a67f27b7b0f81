"""Each exception that can end a training or a search, as its user is told of it."""

from __future__ import annotations

import pytest
import ray.exceptions
import torch
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError
from ray.train import ControllerError
from ray.train.v2._internal import exceptions as of_train
from ray.train.v2.api.exceptions import PreemptionError, WorkerGroupError
from ray.tune.error import TuneError

from pipelines.errors import Fault, UserError
from pipelines.training.run import ray_errors
from pipelines.training.run.ray_errors import explain, user_errors, workers_lost


def failed_worker(error: Exception) -> WorkerGroupError:
    return WorkerGroupError("", {0: error})


def task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("work", "its traceback", cause)


def from_cause(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


LOST = of_train.WorkerHealthCheckFailedError("worker 1", ActorDiedError())
KILLED = OutOfMemoryError("Task was killed due to the node running low on memory.")
NOT_STARTED = of_train.WorkerGroupStartupFailedError("a node died")
LOST_OR_LATE = "More workers were lost"
MEMORY = "no memory left"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ActorDiedError(), LOST_OR_LATE),  # Ray Train's own process
        (ControllerError(ActorDiedError()), LOST_OR_LATE),
        (ControllerError(KILLED), MEMORY),
        (ControllerError(task_error(KILLED)), MEMORY),
        (ControllerError(NOT_STARTED), LOST_OR_LATE),
        (ControllerError(of_train.WorkerGroupStartupTimeoutError(2)), LOST_OR_LATE),
        (ControllerError(of_train.InsufficientClusterResourcesError("no GPU")), LOST_OR_LATE),
        (ControllerError(from_cause(RuntimeError("the group failed"), ActorDiedError())), LOST_OR_LATE),
        (failed_worker(LOST), LOST_OR_LATE),
        (failed_worker(of_train.WorkerHealthCheckFailedError("worker 0", KILLED)), MEMORY),
        (failed_worker(of_train.WorkerHealthCheckTimeoutError("worker 0")), LOST_OR_LATE),
        (failed_worker(torch.distributed.DistBackendError("NCCL communicator was aborted")), LOST_OR_LATE),
        (failed_worker(Fault("the writer has died")), "the writer has died"),
        (WorkerCrashedError(), LOST_OR_LATE),
        (ray.exceptions.NodeDiedError("a node died"), LOST_OR_LATE),
        (ray.exceptions.ObjectLostError("00" * 28, None, ""), LOST_OR_LATE),
        (ray.exceptions.LocalRayletDiedError(), LOST_OR_LATE),
        (ray.exceptions.RuntimeEnvSetupError("pip failed"), "could not make the workers' environment.*pip failed"),
        (ray.exceptions.ObjectStoreFullError("it is full"), "Ray failed: ObjectStoreFullError"),
        (from_cause(TuneError("trial runner"), ActorDiedError()), LOST_OR_LATE),
        (PreemptionError.__new__(PreemptionError), LOST_OR_LATE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_time_may_mend_is_a_fault(error, message):
    with pytest.raises(Fault, match=message) as caught:
        raise explain(error)
    assert caught.value.code == 4
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        failed_worker(UserError("no such file")),
        failed_worker(of_train.UserExceptionWithTraceback(UserError("no such file"), "its traceback")),
        WorkerGroupError("", {0: LOST, 1: UserError("no such file"), 2: Fault("a peer is gone")}),
        ControllerError(task_error(UserError("no such file"))),
        from_cause(TuneError("trial runner"), UserError("no such file")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_user_must_mend_comes_first(error):
    assert (str(explain(error)), explain(error).code) == ("no such file", 2)
    assert (str(explain(error, "the disk is full")), explain(error, "the disk is full").code) == ("the disk is full", 2)


@pytest.mark.parametrize(
    "error", [failed_worker(KeyError("x")), ControllerError(KeyError("x")), task_error(KeyError("x")), TuneError("?")]
)
def test_a_defect_is_no_message_to_the_user(error):
    assert not workers_lost(error)
    with pytest.raises(type(error)) as caught:
        explain(error)
    assert caught.value is error


def test_memory_that_is_refused_is_the_users_to_mend():
    with pytest.raises(UserError, match=r"too little memory for .* a batch.*images_per_batch"), user_errors():
        torch.empty(2**60)
    with pytest.raises(UserError, match="too little memory"), user_errors():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(UserError, match="too little memory"), user_errors():
        bytearray(2**62)


def test_a_rank_whose_peer_is_gone_is_a_fault_and_another_error_is_itself(monkeypatch):
    gone = RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234")
    with pytest.raises(RuntimeError, match="closed by peer"), user_errors():
        raise gone  # alone there is no peer
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(Fault, match="no longer reaches the others"), user_errors():
        raise gone
    with pytest.raises(RuntimeError, match="shapes"), user_errors():
        raise RuntimeError("shapes cannot be multiplied")


def test_every_exception_of_ray_is_known():
    """One that Ray brings newly is looked at by somebody: it is lost, or told by its name, or a defect."""
    for name in dir(ray.exceptions):
        kind = getattr(ray.exceptions, name)
        if isinstance(kind, type) and issubclass(kind, ray.exceptions.RayError) and not issubclass(kind, RayTaskError):
            error = type(name, (kind,), {"__init__": lambda self: None, "__str__": lambda self: "it happened"})()
            with pytest.raises(Fault):
                raise explain(error)
    named = {*dir(of_train), *dir(ray.exceptions), *dir(torch.distributed)}
    assert ray_errors.LOST_BY_NAME - {"PreemptionError", "NCCLHangError"} <= named
