"""Sentences to translations: as the search has them one by one, and what becomes of odd ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.errors import UserError
from pipelines.inference import translator as translation_search
from pipelines.inference.translator import by_length, prepare, replace_unknown, words_of
from rnncond.contract import Source
from rnncond.search import Hypotheses, search
from rnncond.text import Vocabulary
from rnncond.text.special_tokens import EOS, UNK
from tests.worlds import captioner
from tests.worlds import translator as world


@pytest.fixture(scope="module")
def trained():
    return world.make_translator(None)


def test_a_translation_is_what_the_search_finds_for_the_sentence_alone(trained):
    translator = prepare([trained], ["m"], beam=3, nbest=2, attention=True)
    assert (translator.longest, translator.options.max_length) == (12, 8)  # as the recipe has them
    for sentence, row in zip(world.PAIRS, translator(list(world.PAIRS)), strict=True):
        tokens = [*trained.source_vocabulary.encode(sentence), EOS]
        with torch.no_grad():
            memory = trained.model.encode(Source(torch.tensor([tokens])))
            found = search(trained.model.step, memory, trained.model.init_state(memory), translator.options)
        said = [trained.vocabulary.decode(line) for line in found.tokens[0].tolist()]
        assert [row["translation"]] + [other["translation"] for other in row["nbest"][1:]] == said
        assert row["score"] == row["nbest"][0]["score"] == pytest.approx(found.scores[0, 0].item(), rel=1e-5)
        assert row["log_prob"] == pytest.approx(found.log_probs[0, 0].item(), rel=1e-5)
        assert "".join(row["pieces"]) == row["translation"]
        assert row["source_pieces"] == [*(" " * (n > 0) + word for n, word in enumerate(sentence.split())), " </s>"]
        expected = found.attention[0, 0, : len(row["pieces"])].numpy()
        np.testing.assert_allclose(np.array(row["attention"], np.float32), expected, atol=1e-3)
        assert (row["model"], row["cut"]) == (trained.model_id, False)
    assert len({row["translation"] for row in translator(list(world.PAIRS))}) > 3


def test_the_batch_does_not_matter(trained, monkeypatch):
    sentences = [*world.PAIRS, "dog", "a red dog runs a red dog runs"]
    translator = prepare([trained], ["m"], beam=2)
    together = translator(sentences)
    monkeypatch.setitem(translation_search.BATCH, "cpu", (1, 1))
    for one, alone in zip(together, translator(sentences), strict=True):
        assert one["translation"] == alone["translation"]
        assert one["score"] == pytest.approx(alone["score"], rel=1e-5)


def test_a_batch_that_memory_does_not_hold_is_done_in_halves(trained, monkeypatch):
    translator = prepare([trained], ["m"])
    expected, search_all, sizes = translator(list(world.PAIRS)), translator.search, []

    def search_few(tokens, options):
        sizes.append(len(tokens))
        if len(tokens) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate more")
        return search_all(tokens, options)

    monkeypatch.setattr(translator, "search", search_few)
    for one, other in zip(translator(list(world.PAIRS)), expected, strict=True):
        assert one["translation"] == other["translation"]
        assert one["score"] == pytest.approx(other["score"], rel=1e-5)
    assert sizes == [5, 2, 2, 1]


@pytest.mark.parametrize(
    ("tokens", "sentences", "expected"),
    [
        (8, 9, [[1], [3, 4], [0, 2]]),  # 7; 4 and 3 take 2 x 4; 2 and 2 take 2 x 2
        (100, 2, [[1, 3], [4, 0], [2]]),
        (100, 9, [[1, 3, 4, 0, 2]]),
        (1, 9, [[1], [3], [4], [0], [2]]),
    ],
)
def test_batches_are_of_like_lengths(tokens, sentences, expected):
    assert list(by_length({0: 2, 1: 7, 2: 2, 3: 4, 4: 3}, tokens, sentences)) == expected
    assert list(by_length({}, tokens, sentences)) == []


def test_a_sentence_without_words_has_an_empty_translation(trained):
    for row in prepare([trained], ["m"], attention=True)(["", "  \t ", "\u00a0"]):
        assert row["translation"] == "" and row["nbest"] == [{"translation": "", "score": 0.0}]
        assert (row["score"], row["log_prob"], row["cut"], row["pieces"], row["attention"]) == (0, 0, False, [], [])


def test_a_long_sentence_is_cut_or_refused(trained):
    long, short = "the dog is red a cat sleeps", "the dog is"
    cut, whole = prepare([trained], ["m"], max_source_length=3)([long, short])
    assert (cut["translation"], cut["cut"]) == (whole["translation"], True)
    assert cut["score"] == pytest.approx(whole["score"], rel=1e-5)
    refused, whole = prepare([trained], ["m"], max_source_length=3, too_long="refuse")([long, short])
    assert refused == "7 tokens, more than --max-source-length 3"
    assert whole["cut"] is False


def test_where_the_rules_leave_nothing_to_say(trained):
    translator = prepare([trained], ["m"], max_length=60, min_length=50, no_repeat_ngram=1)
    assert translator(["a dog", ""])[0].startswith("the search found no translation")


# Ensembles


def test_an_ensemble_of_one_model_twice_is_that_model(trained):
    alone = prepare([trained], ["m"], beam=3, attention=True)(list(world.PAIRS))
    twice = prepare([trained, trained], ["m", "m"], beam=3, attention=True)(list(world.PAIRS))
    for one, both in zip(alone, twice, strict=True):
        assert one["translation"] == both["translation"]
        assert one["log_prob"] == pytest.approx(both["log_prob"], rel=1e-4)
        np.testing.assert_allclose(np.array(one["attention"]), np.array(both["attention"]), atol=2e-3)
        assert both["model"] == f"{trained.model_id}+{trained.model_id}"


def test_an_ensemble_says_what_its_mean_says(trained):
    """The log-probability of a greedy translation is that of the mean of the models' probabilities."""
    other = world.make_translator(None, "encdec", seed=5)
    translator = prepare([trained, other], ["m", "n"], beam=1)
    (row,) = translator(["a red dog"])
    words = [trained.vocabulary.tokenizer.token_to_id(word) for word in row["translation"].split()]
    source = Source(torch.tensor([[*trained.source_vocabulary.encode("a red dog"), EOS]]))
    with torch.no_grad():
        logits = [one.model(source, torch.tensor([[1, *words]])) for one in (trained, other)]
    mean = torch.stack([one.softmax(-1) for one in logits]).mean(0)[0]
    expected = mean.gather(1, torch.tensor([*words, EOS])[:, None]).log().sum().item()
    assert row["log_prob"] == pytest.approx(expected, rel=1e-4)


def test_models_of_other_vocabularies_are_no_ensemble(trained):
    other = world.make_translator(None, pairs=world.PAIRS | {"a new word": "ein neues Wort"})
    expected = f"vocabulary of runs/other has {len(other.vocabulary)} entries.*of runs/first {len(trained.vocabulary)}"
    with pytest.raises(UserError, match=expected):
        prepare([trained, trained, other], ["runs/first", "runs/second", "runs/other"])
    with pytest.raises(UserError, match="not every model attends; leave out --attention"):
        prepare([trained, world.make_translator(None, "encdec")], ["m", "n"], attention=True)


# What cannot be


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"attention": True}, "--attention"),
        ({"unk_replace": True}, "--unk-replace"),
        ({"coverage_beta": 0.2}, "--coverage-penalty"),
        ({"attention": True, "unk_replace": True}, "--attention and --unk-replace"),
    ],
)
def test_attention_of_a_system_without_it_is_refused(asked, named):
    with pytest.raises(UserError, match=f"encdec, which does not attend; leave out {named}"):
        prepare([world.make_translator(None, "encdec")], ["m"], **asked)


def test_a_captioner_does_not_translate(tmp_path):
    trained = captioner.make_model(tmp_path / "model", "0" * 16, "show_tell")
    with pytest.raises(UserError, match=r"runs/x is of the system show_tell, .*rnncond caption"):
        prepare([trained], ["runs/x"])


def test_a_search_that_cannot_be_is_refused(trained):
    with pytest.raises(UserError, match="nbest is 3, more than beam 2"):
        prepare([trained], ["m"], beam=2, nbest=3)


# UNK


@pytest.mark.parametrize(
    ("level", "text", "expected"),
    [
        ("word", "A Zebra, well-known!", ["A", "Zebra", ",", "well-known", "!"]),
        ("wordpiece", "The Zebra the", ["The", "Zebra", "the"]),
    ],
)
def test_the_word_that_a_token_is_a_part_of(level, text, expected):
    vocabulary = Vocabulary.train(["the a"] * 3, level=level, size=None if level == "word" else 40)
    assert list(dict.fromkeys(words_of(text, vocabulary.tokenizer.encode(text)))) == list(dict.fromkeys(expected))


@pytest.mark.parametrize("level", ["bpe", "unigram"])
def test_subwords_name_their_word_and_lone_blanks_name_none(level):
    vocabulary = Vocabulary.train(["zebra dog the"] * 3, level=level, size=24)
    text = "The  Zebra (dog)."
    encoded = vocabulary.tokenizer.encode(text)
    words = words_of(text, encoded)
    assert len(words) == len(encoded.ids) > 6
    assert list(dict.fromkeys(words)) == ["The", "Zebra", "", "(", "dog", ")", "."]
    letters = [word for word, token in zip(words, encoded.tokens, strict=True) if token.strip("▁") in set("zebra")]
    assert set(letters) <= {"The", "Zebra"}


def test_unk_becomes_the_word_attended_most():
    weights = np.array([[0.9, 0.1, 0, 0], [0.1, 0.2, 0.3, 0.4], [0.3, 0.1, 0.2, 0.4], [0.25, 0.5, 0.25, 0]])
    words = ["Herr", "Schmidt", "Schmidt"]  # the fourth place is EOS: never copied
    parts = replace_unknown(["<unk>", " <unk>", " sees", " <unk>"], [UNK, UNK, 9, UNK], weights, words)
    assert "".join(parts) == "Herr Schmidt sees Schmidt"
    assert replace_unknown([" <unk>"], [UNK], np.array([[0.9, 0.1]]), ["", "cat"]) == [" cat"]
    assert replace_unknown([" <unk>"], [UNK], np.array([[0.9]]), [""]) == [" <unk>"]


def hand_made(vocabulary: Vocabulary, attention: list[list[float]]) -> Hypotheses:
    """``der UNK rennt`` with the attention given."""
    ids = [vocabulary.tokenizer.token_to_id(word) for word in ("der", "<unk>", "rennt")]
    tokens = torch.tensor([[[*ids, EOS]]])
    seen = torch.tensor([[[*attention, [0.25] * 4]]])
    return Hypotheses(tokens, torch.tensor([[4]]), torch.tensor([[-1.0]]), torch.tensor([[-1.0]]), seen)


@pytest.mark.parametrize(("lowercase", "copied"), [(True, "zoé"), (False, "Zoé")])
def test_unk_is_replaced_in_the_translation_and_its_pieces(monkeypatch, lowercase, copied):
    pairs = {"the dog runs": "der rennt"}
    translator = prepare([world.make_translator(None, pairs=pairs, lowercase=lowercase)], ["m"], attention=True,
                         unk_replace=True)  # fmt: skip
    assert UNK not in translator.options.blocked
    weights = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.3, 0.2, 0.4], [0.1, 0.1, 0.7, 0.1]]
    monkeypatch.setattr(translator, "search", lambda *_: hand_made(translator.vocabulary, weights))
    (row,) = translator(["the Zoé runs"])
    assert row["translation"] == row["nbest"][0]["translation"] == f"der {copied} rennt"
    assert row["pieces"] == ["der", f" {copied}", " rennt"]


def test_without_being_asked_unk_is_never_said(trained):
    assert UNK in prepare([trained], ["m"]).options.blocked
