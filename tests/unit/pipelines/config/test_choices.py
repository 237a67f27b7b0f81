"""The choices that the command line offers are those of the code that makes them."""

from __future__ import annotations

import typing

from pipelines.config import choices
from rnncond.fast import lean
from rnncond.search import SearchOptions


def test_length_penalties_are_those_of_the_search():
    assert typing.get_type_hints(SearchOptions)["length_penalty"] == choices.LengthPenalty


def test_precisions_are_those_of_the_steps():
    assert typing.get_args(lean.Precision) == typing.get_args(choices.DecodingPrecision)
