"""The laws of ``rnncond.contract.System``, over every system. On the CPU, and on a GPU where there is one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from rnncond import systems
from tests.contract import caption_cases, laws, translation_cases

CASES = caption_cases.CASES + translation_cases.CASES
HEAVY = {laws.eight_pairs_are_memorised: [pytest.mark.heavy]}
"""It trains."""
PAIRS = [
    pytest.param(law, case, id=f"{law.__name__}-{case.id}", marks=HEAVY.get(law, []))
    for case in CASES
    for law in laws.of(case)
]


def test_every_system_has_a_case():
    assert {case.system for case in CASES} == set(systems.names())
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("device", laws.DEVICES)
@pytest.mark.parametrize(("law", "case"), PAIRS)
def test_law(law, case, device):
    law(case, device)


def test_cudnns_rule_is_kept_here_too():
    """Otherwise the laws would not show what they do on a machine with a GPU."""
    for layer, x in ((nn.GRU(2, 3), torch.randn(4, 1, 2)), (nn.LSTM(2, 3), pack_sequence([torch.randn(4, 2)]))):
        outputs, _ = layer.eval()(x)
        outputs = outputs if isinstance(outputs, torch.Tensor) else outputs.data
        with pytest.raises(RuntimeError, match="only be called in training mode"):
            outputs.sum().backward()
        outputs, _ = layer.train()(x)
        outputs = outputs if isinstance(outputs, torch.Tensor) else outputs.data
        outputs.sum().backward()
