"""Batches that memory does not hold are done in halves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, Self, TypeVar

import torch


class Sliceable(Protocol):
    """A list or an array: its slices are of its own type."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Self: ...


Batch = TypeVar("Batch", bound=Sliceable)
Result = TypeVar("Result")

SIGNS = (
    *("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_cpu"),
    *("cublas_status_alloc_failed", "cudnn_status_alloc_failed"),
)
"""In lower case: PyTorch's allocator on the CPU, and the libraries of a GPU, have no class of their own for it."""


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def is_device_lost(error: BaseException) -> bool:
    """Whether a GPU has failed, after which no other work on it by this process succeeds."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


class MemoryBackoff:
    """Computes batches, in smaller ones where memory does not suffice; what was too large once is not tried again.

    Attributes:
        most: examples at once, None as long as no batch was too large.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def __call__(self, compute: Callable[[Batch], Result], batch: Batch) -> Iterator[tuple[Batch, Result]]:
        """The pieces of ``batch``, in order, each with what ``compute`` makes of it.

        Raises:
            Exception: what ``compute`` raises; for want of memory only if one example alone is too much.
        """
        while len(batch):
            piece = batch[: self.most]
            try:
                result = compute(piece)
            except Exception as error:
                if not is_out_of_memory(error) or len(piece) == 1:
                    raise
                self.most = len(piece) // 2
            else:
                yield piece, result
                batch = batch[len(piece) :]
                continue
            # Outside of the handler, whose exception keeps the tensors of the failed attempt alive.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
