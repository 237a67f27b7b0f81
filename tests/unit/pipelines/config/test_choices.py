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


def test_each_recipe_says_what_it_is_for():
    purposes = {name: choices.purpose_of(name) for name in choices.recipe_names()}
    assert [name for name, purpose in purposes.items() if len(purpose) < 20] == []
    assert "(Wu et al. 2016" in purposes["gnmt.small"]
