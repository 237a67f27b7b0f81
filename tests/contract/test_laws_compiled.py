"""The laws that attention, the gates and the loss decide, with their loops compiled."""

from __future__ import annotations

import shutil

import pytest

from rnncond import losses
from rnncond.fast import additive, fused, kernels
from tests.contract import laws
from tests.contract.test_laws import CASES

pytestmark = pytest.mark.heavy

LAWS = [
    laws.forward_equals_the_looped_step,
    laws.rows_of_one_example_equal_separate_examples,
    laws.padding_and_batch_mates_change_nothing,
    laws.attention_is_a_distribution_over_real_places,
    laws.the_gradient_is_the_slope,
    laws.bfloat16_training_is_float32_training_but_for_rounding,
    laws.search_leaves_the_memory_and_scores_as_forward,
]
COMPILED = [
    "show_attend_tell regions", "show_attend_tell hard", "top_down regions", "encdec_attention concat gru",
    "encdec_bidirectional gru", "gnmt depth 3",
]  # fmt: skip


@pytest.fixture
def compiled(monkeypatch):
    """Loops of any size are compiled, the smallest too."""
    if shutil.which("g++") is None:
        pytest.skip("there is no compiler")
    monkeypatch.setattr(additive, "COMPILED", 0)
    monkeypatch.setattr(fused, "COMPILED", 0)
    monkeypatch.setattr(losses, "COMPILED", 0)
    kernels.enable()
    yield
    kernels.enable(False)


@pytest.mark.parametrize("device", laws.DEVICES)
@pytest.mark.parametrize("case", [case for case in CASES if case.id in COMPILED], ids=lambda case: case.id)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law, case, device, compiled):
    law(case, device)
    assert kernels.enabled(), "a compilation failed"
    assert additive.pair_scores.seen
    assert fused.lstm_forward.seen or fused.gru_forward.seen
