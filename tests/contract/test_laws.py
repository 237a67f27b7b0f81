"""The laws of ``rnncond.contract.System``, over every system. On the CPU, and on a GPU where there is one."""

from __future__ import annotations

import pytest

from rnncond import systems
from tests.contract import caption_cases, laws, translation_cases

CASES = caption_cases.CASES + translation_cases.CASES
PAIRS = [pytest.param(law, case, id=f"{law.__name__}-{case.id}") for case in CASES for law in laws.of(case)]


def test_every_system_has_a_case():
    assert {case.system for case in CASES} == set(systems.names())
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("device", laws.DEVICES)
@pytest.mark.parametrize(("law", "case"), PAIRS)
def test_law(law, case, device):
    law(case, device)
