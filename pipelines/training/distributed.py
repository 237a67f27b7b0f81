"""The ranks of a distributed run; alone, where torch.distributed was not initialised."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed

from pipelines.config.recipe import Recipe


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def accumulated(recipe: Recipe) -> int:
    """How many batches of each rank make a step. Where workers of an elastic run are away, the others do their share,
    as nearly as whole batches can."""
    asked = recipe.cluster
    share = asked.workers / count() if asked.min_workers else 1
    return max(1, round(recipe.training.accumulate * share))


def total(values: Tensor) -> Tensor:
    """The sum of every rank's ``values``."""
    if count() > 1:
        distributed.all_reduce(values)
    return values


def gather(value: Any) -> list[Any]:
    """Every rank's ``value``, on every rank."""
    if count() == 1:
        return [value]
    values = [None] * count()
    distributed.all_gather_object(values, value)
    return values


def share(value: Any) -> Any:
    """The ``value`` of rank 0, on every rank."""
    if count() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def wrap(module: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """``module`` with its gradients averaged over the ranks."""
    if count() == 1:
        return module
    ids = [device.index] if device.type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(module, device_ids=ids)


def no_sync(module: torch.nn.Module) -> AbstractContextManager[None]:
    """While the block runs, gradients of a module that ``wrap`` gave stay on their rank and add up there."""
    return module.no_sync() if isinstance(module, torch.nn.parallel.DistributedDataParallel) else nullcontext()
