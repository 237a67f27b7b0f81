"""Functions of tensors that ``torch.compile`` turns into one loop, where there is a compiler and the work is worth it.

Compiling takes seconds (inductor keeps the result in its cache on disk, so that later processes take less), hence
nothing is compiled until a process asks for it with ``enable``. Results differ from those of torch's own kernels by
rounding, so whoever must repeat a computation bit by bit asks for the same every time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

_asked = False


def enable(asked: bool = True) -> None:
    """Compile each ``Kernel`` at its next call in this process; with ``asked`` False go back to torch's kernels."""
    global _asked
    _asked = asked


def enabled() -> bool:
    """Whether kernels are compiled: it was asked for, and no compilation has failed since."""
    return _asked


class Kernel(Generic[Result]):
    """A function of tensors alone, compiled once for all sizes, and once more where some are 1.

    A call gives None while kernels are not compiled, and the caller then does the same with torch's own. It must be
    called without autograd. The function may change arguments that are contiguous.
    """

    def __init__(self, function: Callable[..., Result]) -> None:
        self.function, self.__doc__ = function, function.__doc__
        self.compiled: Callable[..., Result] | None = None
        self.seen: set[tuple[object, ...]] = set()

    def __call__(self, *tensors: Tensor) -> Result | None:
        if not _asked:
            return None
        # Torch would compile once more for each way in which memory lies, for autocast, and where a gradient is wanted.
        tensors = tuple(plain(x) for x in tensors)
        device = tensors[0].device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self.run(*tensors)
        return self.run(*tensors)

    def if_worth(self, worth: bool, otherwise: Callable[..., Result], *tensors: Tensor) -> Result:
        """The compiled loop's result where it is ``worth`` it and there is one, else that of torch's kernels."""
        result = self(*tensors) if worth else None
        return otherwise(*tensors) if result is None else result

    def run(self, *tensors: Tensor) -> Result | None:
        kind = tuple((x.dtype, x.device, *(size == 1 for size in x.shape)) for x in tensors)
        if self.compiled is not None and kind in self.seen:
            return self.compiled(*tensors)
        self.compiled = self.compiled or torch.compile(self.function, fullgraph=True, dynamic=True)
        try:
            with compiling():
                result = self.compiled(*tensors)
        except Exception as error:  # of inductor, the C++ compiler or Triton, before any argument was changed
            enable(False)
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
            logging.getLogger(__name__).warning(
                "Attention, gates and loss are not compiled, and slower for it: %s", reason
            )
            return None
        self.seen.add(kind)
        return result


def plain(x: Tensor) -> Tensor:
    """``x`` without autograd and whatever else it is beside a tensor, and contiguous."""
    return (x if type(x) is Tensor and not x.requires_grad else x.detach()).contiguous()


@contextmanager
def compiling() -> Iterator[None]:
    """Sizes that happen to be equal are not taken to be equal; no processes are started to compile a few small loops;
    torch does not tell that it has no CUDA to compile for."""
    # Not before they are needed: inductor takes seconds to load.
    import torch._inductor.config as inductor
    import torch.fx.experimental._config as symbolic_shapes

    advice = logging.getLogger("torch.utils.cpp_extension")
    level = advice.level
    advice.setLevel(logging.ERROR)
    try:
        with inductor.patch(compile_threads=1), symbolic_shapes.patch(use_duck_shape=False):  # type: ignore[attr-defined]  # torch makes it at run time
            yield
    finally:
        advice.setLevel(level)
