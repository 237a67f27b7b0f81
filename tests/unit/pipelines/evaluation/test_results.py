"""What verbs that decode wrote, opened to be scored or shown."""

import numpy as np
import pyarrow as pa
import pytest

from feature_store import Store
from pipelines.errors import UserError
from pipelines.evaluation.results import (
    CAPTIONS,
    TRANSLATIONS,
    about_output,
    check_written,
    open_output,
    output_kinds,
    rounded,
)

SCHEMA = pa.schema([pa.field("image_id", pa.string(), nullable=False)])


def test_the_kinds_of_output_of_a_folder(tmp_path):
    assert output_kinds(str(tmp_path)) == []
    with Store(tmp_path).dataset("features", {"backbone": "x"}, SCHEMA).begin():
        pass
    assert output_kinds(str(tmp_path)) == []
    with Store(tmp_path).dataset("captions", {"model": "m"}, SCHEMA).begin():
        pass
    assert output_kinds(str(tmp_path)) == [CAPTIONS]
    assert open_output(str(tmp_path), CAPTIONS).recipe["model"] == "m"
    with pytest.raises(UserError, match="no output of `rnncond translate`: a store with translations was expected"):
        open_output(str(tmp_path), TRANSLATIONS)


def test_a_set_says_how_it_was_made_and_only_what_was_unusual_of_its_search():
    recipe = {"model": "m", "system": "s", "search": {"beam": 3, "max_length": 7, "nbest": 1}, "features": {"x": 1}}
    about = about_output(recipe)
    assert about == {"model": {"id": "m", "system": "s"}, "search": {"beam": 3, "max_length": 7}, "features": {"x": 1}}


def test_weights_of_a_grid_are_pieces_by_places():
    weights = np.arange(12).reshape(2, 2, 3) / 7
    assert rounded(weights, 2) == weights.reshape(2, 6).round(2).tolist()


class Written:
    """A snapshot, as far as it is asked for here."""

    def __init__(self, rows: int) -> None:
        self.rows = rows


@pytest.mark.parametrize(("kind", "things"), [(CAPTIONS, "images"), (TRANSLATIONS, "sentences")])
def test_an_output_without_anything_to_score_says_why(kind, things):
    """Not that captions of people are of other images, as if some had been written."""
    check_written(Written(1), {"b": "broken"}, "out", kind)
    with pytest.raises(UserError, match=rf"out has no {kind.name} to score: all 2 {things} failed \(a: no such file\)"):
        check_written(Written(0), {"b": "broken", "a": "no such file"}, "out", kind)
    with pytest.raises(UserError, match=f"`rnncond {kind.verb}` has written none yet"):
        check_written(Written(0), {}, "out", kind)
