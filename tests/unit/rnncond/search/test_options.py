"""Options of a search that cannot be meant, and what the rest of the search reads of them."""

from __future__ import annotations

import math

import pytest

from rnncond.search import SearchOptions
from rnncond.text.special_tokens import EOS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "beam is 0"),
        ({"beam": 2, "nbest": 3}, "nbest is 3"),
        ({"min_length": 30}, "min_length is 30"),
        ({"length_penalty": "mean"}, "none, average, gnmt"),
        ({"alpha": -1}, "alpha is -1"),
        ({"blocked": (EOS,)}, "cannot have EOS"),
        ({"samples": 2, "temperature": 0}, "temperature is 0"),
        ({"samples": 2, "temperature": math.nan}, "temperature is nan"),
        ({"samples": 2, "temperature": math.inf}, "temperature is inf"),
        ({"samples": 2, "seed": 2**64}, "must fit into 64 bits"),
        ({"samples": 2, "top_p": 1.5}, "top_p 1.5"),
        ({"samples": 2, "beam": 2}, "samples go without beam 2"),
        ({"temperature": 0.5}, "mean nothing without samples"),
        ({"coverage_beta": math.nan}, "coverage_beta is nan"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SearchOptions(**options)


@pytest.mark.parametrize(
    ("options", "width", "returned"),
    [({}, 1, 1), ({"beam": 5, "nbest": 2}, 5, 2), ({"samples": 7}, 7, 7)],
    ids=str,
)
def test_rows_and_results_of_each_example(options, width, returned):
    assert (SearchOptions(**options).width, SearchOptions(**options).returned) == (width, returned)
