"""Text as tokens in a store."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from feature_store import Store
from pipelines.config.sections import PairText
from pipelines.errors import UserError
from pipelines.inputs.corpus import Corpus
from pipelines.training.data import tokens as module
from pipelines.training.data.tokens import rows_of, vocabularies, whole
from rnncond.text.special_tokens import EOS
from tests.worlds.corpora import write


@pytest.fixture
def corpus(tmp_path):
    return Corpus(str(write(tmp_path / "source", ["a b", "c a"])), str(write(tmp_path / "target", ["x", "y x"])))


@pytest.mark.parametrize(("joint", "sizes"), [(True, (4 + 5, 4 + 5)), (False, (4 + 3, 4 + 2))])
def test_a_vocabulary_is_trained_once_and_then_read(tmp_path, corpus, monkeypatch, joint, sizes):
    text = PairText(level="word", joint=joint)
    trained = vocabularies(Store(tmp_path / "store"), corpus, text)
    assert tuple(map(len, trained)) == sizes
    monkeypatch.setattr(module.Vocabulary, "train", lambda *_, **__: pytest.fail("it was trained again"))
    again = vocabularies(Store(tmp_path / "store"), corpus, text)
    assert [one.to_json() for one in again] == [one.to_json() for one in trained]


def test_a_row_has_the_tokens_and_how_many_they_are(tmp_path, corpus):
    source, target = vocabularies(Store(tmp_path / "store"), corpus, PairText(level="word", joint=False))
    pairs = pa.table({"id": ["1", "2"], "source": ["b a", ""], "target": ["y", "x x"]})
    first, second = rows_of(pairs, source, target).to_pylist()
    assert first["source"][-1] == EOS and source.decode(first["source"]) == "b a"
    assert EOS not in first["target"] and target.decode(first["target"]) == "y"
    assert second["source"] == [EOS]
    assert [(row["source_length"], row["target_length"], row["reference"]) for row in (first, second)] == [
        (3, 1, "y"), (1, 2, "x x"),
    ]  # fmt: skip


def test_a_pair_without_a_target_is_refused_by_its_id():
    chunk = pa.table({"id": ["7", "8"], "source": ["a", "b"], "target": ["x", None]})
    corpus = SimpleNamespace(chunks=lambda: iter([chunk]), source="pairs.jsonl", columns=("en", "de"))
    with pytest.raises(UserError, match=r"the pair 8 of pairs\.jsonl has no 'de'"):
        list(whole(corpus))


@pytest.mark.parametrize("joint", [False, True])
def test_the_target_gets_its_case_and_the_source_none(tmp_path, joint):
    files = [write(tmp_path / name, lines) for name, lines in (("s", ["x A b"] * 2), ("t", ["x B a"] * 2))]
    corpus = Corpus(*map(str, files))
    text = PairText(level="word", joint=joint, truecase=True)
    source, target = vocabularies(Store(tmp_path / "store"), corpus, text)
    assert target.decode(target.encode("x b a")) == "x B a" and source.decode(source.encode("x a b")) == "x a b"
    plain = vocabularies(Store(tmp_path / "store"), corpus, text.model_copy(update={"truecase": False}))
    assert plain[0] == source and plain[1].tokenizer.to_str() == target.tokenizer.to_str()  # the same is kept
