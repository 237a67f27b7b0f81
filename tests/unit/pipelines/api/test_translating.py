"""Translations from Python: a sentence or a list of them, by search or by sampling, with attention."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.api import Translation, UserError, load_translator
from tests.worlds import captioner
from tests.worlds.translator import PAIRS, make_translator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "model"
    make_translator(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_translator(folder)


def test_a_sentence_or_a_list_in_its_order(model):
    sentences = [*PAIRS, ""]
    together = model.translate(sentences)
    assert [one.text for one in together[:-1]] == [model.translate(sentence).text for sentence in PAIRS]
    assert together[-1].text == ""
    one = model.translate("a red dog runs")
    assert isinstance(one, Translation)
    assert str(one) == one.text == one.alternatives[0].text == str(one.alternatives[0])
    assert model.translate([]) == []


def test_samples_are_drawn_and_a_seed_repeats_them(model):
    drawn = model.translate("a red dog runs", samples=6, temperature=1.5, seed=3)
    assert len(drawn.alternatives) == 6
    assert drawn == model.translate("a red dog runs", samples=6, temperature=1.5, seed=3)
    likeliest = model.translate("a red dog runs", samples=1, top_p=1e-9)
    assert likeliest.text == model.translate("a red dog runs", beam=1).text, "the least nucleus is greedy"


def test_attention_has_a_row_for_each_piece(model):
    one = model.translate("a red dog runs", attention=True)
    assert one.attention is not None
    assert one.attention.shape == (len(one.pieces), len(one.source_pieces))
    np.testing.assert_allclose(one.attention.sum(1), 1, atol=2e-3)
    assert one.figure().svg.startswith("<svg ")
    with pytest.raises(UserError, match="attention=True"):
        model.translate("a red dog runs").figure()
    with pytest.raises(UserError, match="attention=True"):
        model.translate("", attention=True).figure()


def test_what_is_wrong_is_told(folder, tmp_path):
    with pytest.raises(UserError, match="sentence 1: expected a text, got int"):
        load_translator(folder).translate(["a dog", 7])
    with pytest.raises(UserError, match="sentence 0: 4 tokens, more than"):
        load_translator(folder, max_source_length=2, too_long="refuse").translate("a red dog runs")
    assert load_translator(folder, max_source_length=2).translate("a red dog runs").cut
    captioner.make_model(tmp_path / "captioner", "0" * 16)
    with pytest.raises(UserError, match="describes pictures"):
        load_translator(tmp_path / "captioner")
    with pytest.raises(UserError, match="no model"):
        load_translator(tmp_path / "nowhere")
