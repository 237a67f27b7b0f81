"""What a pipeline is told of the verbs."""

from __future__ import annotations

import pytest

from pipelines.cli.commands import NO_STAGE, VERBS, stage_command
from pipelines.errors import UserError


def test_the_verbs_that_need_a_cluster_are_those_that_take_an_address():
    stages = [verb for verb in VERBS if verb not in (*NO_STAGE, "store")]
    on_ray = {verb for verb in stages if stage_command(verb).uses_ray}
    assert on_ray == {"features", "train", "tune", "caption", "translate"}


def test_what_verbs_write():
    written = {
        "features": {"store", "save_listing"},
        "train": {"out"},
        "tune": {"out"},
        "caption": {"out", "save_listing", "keep_features", "lines"},
        "translate": {"out", "lines"},
        "evaluate": {"out"},
        "report": {"to"},
        "promote": set(),
        "store verify": set(),
    }
    assert {verb: set(stage_command(verb).outputs) for verb in written} == written


@pytest.mark.parametrize("verb", ["demo", "run", "submit", "trian", "", "store", "store inf", "train it"])
def test_what_makes_no_stage(verb):
    with pytest.raises(UserError, match=r"verb:|Expected store with one of"):
        stage_command(verb)
