"""Freed memory stays with the process, so that the kernel need not clear pages again."""

import os
import subprocess
import sys

import pytest

from pipelines.allocator import keep_freed_memory

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")

FAULTS = """
import resource, sys
from pipelines.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
bytearray(b"1") * (64 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(b"1") * (64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = (64 << 20) // os.sysconf("SC_PAGE_SIZE")


def faults(how, **environment):
    words = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(words, env=os.environ | environment, check=True, capture_output=True, text=True).stdout)


def test_the_second_array_of_a_size_costs_no_new_pages():
    assert faults("keep") < PAGES / 100
    assert faults("leave") > PAGES / 2 or os.environ.get("GLIBC_TUNABLES")  # else there is nothing to mend


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=131072")]
)
def test_what_a_user_has_set_stands(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
