"""The section ``training``: kinds with keys of their own, and values that go together."""

import pytest
from pydantic import ValidationError

from pipelines.config.training_sections import OBJECTIVES, SCHEDULES, Cosine, Decay, GnmtDecay, InverseSqrt, Plateau


def test_every_kind_is_known_by_its_name():
    for kinds in (SCHEDULES, OBJECTIVES):
        for kind, section in kinds.items():
            assert kind in str(section.model_fields["kind"].annotation)


def test_the_published_values_are_the_defaults():
    """Vaswani et al. 2017, section 5.3, warm up over 4,000 steps."""
    assert InverseSqrt(kind="inverse_sqrt").warmup_steps == 4000
    assert Cosine(kind="cosine").warmup_steps == 0


@pytest.mark.parametrize(
    ("section", "values", "key"),
    [
        (Plateau, {"kind": "plateau", "factor": 1}, "factor"),
        (Plateau, {"kind": "plateau", "patience": 0}, "patience"),
        (GnmtDecay, {"kind": "gnmt", "start_decay_steps": 4}, "decay_every"),
        (GnmtDecay, {"kind": "gnmt", "start_decay_steps": 4, "decay_every": 2, "patience": 1}, "patience"),
        (InverseSqrt, {"kind": "inverse_sqrt", "warmup_steps": 0}, "warmup_steps"),
        (Decay, {"kind": "linear", "c": 0}, "c"),
    ],
)
def test_keys_of_another_kind_and_values_out_of_range_are_refused(section, values, key):
    with pytest.raises(ValidationError) as caught:
        section.model_validate(values)
    assert {error["loc"][-1] for error in caught.value.errors()} == {key}


def test_a_linear_decay_needs_its_slope():
    with pytest.raises(ValidationError, match="c"):
        Decay(kind="linear")
    assert Decay(kind="linear", c=0.1).lowest == 0
