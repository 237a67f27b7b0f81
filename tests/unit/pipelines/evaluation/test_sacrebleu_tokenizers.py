"""sacrebleu's tokenizers as options, and what each of them lacks, told in one message."""

import sys

import pytest
import sacrebleu
from sacrebleu.tokenizers import tokenizer_ja_mecab, tokenizer_ko_mecab

from pipelines.config.metrics import BLEU_TOKENIZERS, tokenizer_of
from pipelines.errors import UserError
from pipelines.evaluation.sacrebleu_tokenizers import bleu_of, words_by
from pipelines.evaluation.translation_metrics import translation_scores

THAI = ["\u0e2a\u0e38\u0e19\u0e31\u0e02\u0e2a\u0e2d\u0e07\u0e15\u0e31\u0e27", "\u0e41\u0e21\u0e27"]
CHINESE, REFERENCE = "\u4e24\u53ea\u72d7\u5728\u8dd1\u6b65\u3002", "\u4e24\u53ea\u72d7\u5728\u8dd1\u3002"


def test_they_are_sacrebleus():
    assert set(BLEU_TOKENIZERS) == set(sacrebleu.BLEU.TOKENIZERS) - {"spm"}  # an old name of flores101


LANGUAGES = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab", "de": "13a", "th": "char", "zh_TW": "zh"}


@pytest.mark.parametrize(("language", "tokenizer"), LANGUAGES.items())
def test_the_tokenizer_of_a_language_is_sacrebleus_choice_where_it_has_one(language, tokenizer):
    known = sacrebleu.BLEU._TOKENIZER_MAP.get(language[:2], "13a")
    assert tokenizer_of(language) == tokenizer and tokenizer in ("char", known)


@pytest.mark.parametrize(
    ("tokenizer", "module", "install"),
    [("ja-mecab", tokenizer_ja_mecab, "sacrebleu[ja]"), ("ko-mecab", tokenizer_ko_mecab, "sacrebleu[ko]")],
)
def test_a_dictionary_that_is_not_installed(monkeypatch, tokenizer, module, install):
    monkeypatch.setattr(module, "MeCab", None)
    with pytest.raises(UserError) as error:
        bleu_of(tokenizer)
    assert install in str(error.value) and "--tokenizer char" in str(error.value)


@pytest.mark.parametrize("tokenizer", ["flores101", "flores200", "spBLEU-1K"])
def test_a_model_is_not_downloaded(monkeypatch, tokenizer, tmp_path):
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_spm.download_file", lambda *_: pytest.fail("it is fetched"))
    with pytest.raises(UserError, match="nothing is downloaded while scoring"):
        bleu_of(tokenizer)


def test_a_package_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "sacrebleu_tokenizer_spm.model").touch()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match="pip install sentencepiece"):
        bleu_of("flores101")


def test_another_name():
    with pytest.raises(UserError, match="'simple' is not sacrebleu's; its own are 13a, intl, zh"):
        bleu_of("simple")


@pytest.mark.parametrize("tokenizer", ["zh", "char", "intl", "none", "13a"])
def test_scores_are_sacrebleus_with_the_tokenizer_in_the_signature(tokenizer):
    hypotheses, references = [CHINESE, *THAI], [REFERENCE, *THAI]
    scores = translation_scores(hypotheses, [[line] for line in references], tokenizer=tokenizer)
    expected = sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenizer)
    assert scores.corpus["BLEU"] == expected.score and f"tok:{tokenizer}" in scores.signatures["BLEU"]
    assert ("TER" in scores.corpus) == (tokenizer != "char")
    assert ("asian:yes" in scores.signatures.get("TER", "")) == (tokenizer == "zh")


def test_thai_is_scored_by_characters_where_13a_sees_one_word():
    hypotheses, references = [THAI[0][:-1]], [[THAI[0]]]
    assert translation_scores(hypotheses, references, tokenizer="13a").corpus["BLEU"] == 0
    assert translation_scores(hypotheses, references, tokenizer=tokenizer_of("th")).corpus["BLEU"] > 50


def test_words_have_no_punctuation_and_no_capitals():
    assert words_by("intl")("A dog, 2 cats!") == ["a", "dog", "2", "cats"]
