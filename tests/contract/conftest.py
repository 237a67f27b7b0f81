"""What holds while a law is tried: one thread, and cuDNN's rule for recurrent layers, on every machine."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

pytest.register_assert_rewrite("tests.contract.laws")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Products this small gain nothing from threads, and wait for one another on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def the_rule_of_cudnn():
    """cuDNN has no backward pass for a recurrent layer that ran in evaluation mode. Here the CPU has none either, so
    that what a law does on a machine with a GPU is seen on one without."""
    handle = nn.modules.module.register_module_forward_hook(refuse_backward_of_evaluation)
    yield
    handle.remove()


def refuse_backward_of_evaluation(module: nn.Module, inputs, outputs) -> None:
    if not isinstance(module, nn.RNNBase) or module.training:
        return
    sequence, state = outputs
    sequence = sequence.data if isinstance(sequence, PackedSequence) else sequence
    for tensor in (sequence, *(state if isinstance(state, tuple) else (state,))):
        if tensor.requires_grad:
            tensor.register_hook(refuse)


def refuse(grad: torch.Tensor) -> None:
    raise RuntimeError("cudnn RNN backward can only be called in training mode")
