"""What a call may ask of a search."""

from __future__ import annotations

import dataclasses

import pytest

from pipelines.api.search_arguments import SearchArguments, options_of
from pipelines.errors import UserError
from rnncond.search import SearchOptions
from tests.worlds.translator import SEARCH, make_translator


@pytest.fixture(scope="module")
def trained():
    return make_translator(None)


def test_every_argument_is_an_option_of_a_search():
    assert set(SearchArguments.__annotations__) == {field.name for field in dataclasses.fields(SearchOptions)} - {
        "blocked"
    }


def test_the_recipe_has_what_is_left_out_and_samples_need_no_beam(trained):
    assert options_of(trained, {}).max_length == SEARCH["max_length"]
    assert options_of(trained, {}).beam == 5
    assert options_of(trained, {"beam": 2, "max_length": 3}) == SearchOptions(beam=2, max_length=3)
    assert options_of(trained, {"samples": 4}).beam == 1


def test_arguments_that_do_not_fit_are_told(trained):
    with pytest.raises(UserError, match="samples go without beam"):
        options_of(trained, {"samples": 2, "beam": 3})
    with pytest.raises(UserError, match="mean nothing without samples"):
        options_of(trained, {"temperature": 0.5})
