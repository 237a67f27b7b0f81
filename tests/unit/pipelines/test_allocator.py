"""Freed memory stays with the process, so that the kernel need not clear pages again."""

import os
import subprocess
import sys

import pytest

from pipelines.allocator import keep_freed_memory

FAULTS = """
import resource, threading
def work():
    bytearray(b"1") * (64 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"1") * (64 << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)  # as Ray's workers compute
thread.start()
thread.join()
"""
PAGES = (64 << 20) // os.sysconf("SC_PAGE_SIZE")


def faults(environment):
    words = [sys.executable, "-c", FAULTS]
    return int(subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the variables are glibc's")
def test_the_second_array_of_a_size_costs_no_new_pages():
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name and "TUNABLES" not in name}
    assert faults(environment) > PAGES / 2  # else there is nothing to mend
    keep_freed_memory(environment)
    assert faults(environment) < PAGES / 100


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=131072")]
)
def test_what_a_user_has_set_stands(name, value):
    environment = {name: value}
    keep_freed_memory(environment)
    assert environment == {name: value}
