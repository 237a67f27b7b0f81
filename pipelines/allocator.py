"""How a process that computes begins: threads, and what glibc does with memory that a network's layers have freed."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of malloc.h."""
LARGEST = 2**31 - 1
"""What mallopt takes for a number of bytes."""
GIBIBYTE = 2**30


def set_up_torch(threads: int) -> None:
    """Have this process, which trains or decodes and does nothing else, use ``threads`` and keep its memory."""
    import torch  # here, because the driver of some verbs needs none

    keep_freed_memory()
    torch.set_num_threads(threads)


def keep_freed_memory() -> bool:
    """Have this process keep what it frees, for the next batch; False where there is no glibc, or its user has set it.

    glibc gives a freed array of more than 32 MB back to the kernel, as well as the end of the heap. The next layer gets
    new pages, and the kernel clears each at its first use: 17,000 for one image of EfficientNet-Lite0 in batches of 32.
    In a virtual machine that took as long as the network's arithmetic (docs/results.md). Arrays of up to 1 GiB
    now come from the heap, which does not shrink: the process stays as large as its largest batch has made it. That is
    the heap of the main thread; glibc gives other threads smaller ones, whose large arrays go back as before.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, GIBIBYTE) and mallopt(M_TRIM_THRESHOLD, LARGEST))
