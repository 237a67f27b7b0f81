"""What processes that are about to begin do with memory: glibc with what a network's layers have freed, oneDNN with
what it has made for products of sizes that it has met."""

from __future__ import annotations

from collections.abc import MutableMapping

KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
}
"""One heap for all threads of a process, arrays of up to 1 GiB from it, and none of it given back. Of products oneDNN
keeps the last 128 sizes, not 1,024: of text nearly every batch has sizes of its own, and a worker that trains on it
would grow for hundreds of steps by what is never used again. Making a product's code again takes no time that could be
measured."""


def keep_freed_memory(environment: MutableMapping[str, str]) -> None:
    """Have processes that begin in ``environment`` keep what they free, for the next batch, unless its user has told
    glibc otherwise. Another C library takes no notice.

    glibc gives a freed array of more than 32 MB back to the kernel, as well as the end of the heap. The next layer gets
    new pages, and the kernel clears each at its first use: 17,000 for one image of EfficientNet-Lite0 in batches of 32.
    In a virtual machine that took as long as the network's arithmetic (docs/speed.md). A process that keeps is as
    large as its largest batch has made it. Ray's workers compute in threads, each of which would have a smaller heap
    of its own whose large arrays go back, hence the one heap; ``mallopt``, called in a worker, comes too late for that.
    """
    if any(name.startswith("MALLOC_") for name in environment) or "malloc" in environment.get("GLIBC_TUNABLES", ""):
        return
    environment.update(KEEP_FREED_MEMORY)
