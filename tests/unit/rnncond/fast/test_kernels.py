"""When loops are compiled, and what happens where they cannot be; their numbers are a law (``tests/contract``)."""

from __future__ import annotations

import logging

import pytest
import torch

from rnncond.fast import kernels


@pytest.fixture(autouse=True)
def as_before():
    yield
    kernels.enable(False)


@pytest.fixture
def compiler(monkeypatch):
    """Stands for torch.compile: what it was asked to compile."""
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **settings: asked.append(function) or function)
    return asked


def double(x):
    return 2 * x


def test_nothing_is_compiled_until_it_is_asked_for(compiler):
    kernel = kernels.Kernel(double)
    assert kernel(torch.ones(2)) is None and not compiler
    kernels.enable()
    assert torch.equal(kernel(torch.ones(2)), torch.full((2,), 2.0))
    assert torch.equal(kernel(torch.ones(3)), torch.full((3,), 2.0))
    assert compiler == [double]
    kernels.enable(False)
    assert kernel(torch.ones(2)) is None


def test_without_a_compiler_it_is_said_once(monkeypatch, caplog):
    def broken(function, **settings):
        def run(*tensors):
            raise RuntimeError("\nInvalidCxxCompiler: no working C++ compiler found\nand a traceback")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    kernels.enable()
    first, second = kernels.Kernel(double), kernels.Kernel(double)
    with caplog.at_level(logging.WARNING):
        assert first(torch.ones(2)) is None and second(torch.ones(2)) is None and first(torch.ones(2)) is None
    assert not kernels.enabled()
    (record,) = caplog.records
    assert record.getMessage().endswith("slower for it: InvalidCxxCompiler: no working C++ compiler found")
