"""The scores of a validation: which tokenizer, which way is better, and which epoch is the best."""

import pytest

from pipelines.config.metrics import VALIDATED, best_of, language, rank_of_trial, tokenizer_of, value_of


@pytest.mark.parametrize(
    ("tag", "tokenizer"),
    [
        (None, "13a"),
        ("de", "13a"),
        ("zh", "zh"),
        ("zh-Hant", "zh"),
        ("ja", "ja-mecab"),
        ("ko_KR", "ko-mecab"),
        ("th", "char"),
    ],
)
def test_the_tokenizer_of_a_language(tag, tokenizer):
    assert tokenizer_of(tag) == tokenizer


@pytest.mark.parametrize("tag", ["German", "d", "zh--Hant", "ja "])
def test_what_is_no_tag_of_a_language(tag):
    with pytest.raises(ValueError, match="expected a language's tag"):
        language(tag)
    assert language("pt-BR") == "pt-BR"


def test_the_best_epoch_is_the_first_of_the_highest_and_was_validated():
    lines = [
        {"epoch": 1, "val_loss": 2.0, "CIDEr": 10.0},
        {"epoch": 2, "CIDEr": 99.0},
        {"epoch": 3, "val_loss": 1.0, "CIDEr": 30.0},
        {"epoch": 4, "val_loss": 1.0, "CIDEr": 30.0},
    ]
    assert best_of(lines, "CIDEr")["epoch"] == best_of(lines, "loss")["epoch"] == 3
    assert value_of(lines[0], "loss") == -2.0


def test_equal_scores_go_to_the_lower_loss():
    """BLEU is 0 in the first epochs, and the model gets better all the same."""
    lines = [{"epoch": epoch, "val_loss": loss, "BLEU": 0.0} for epoch, loss in enumerate((5.0, 3.0, 4.0), 1)]
    assert best_of(lines, "BLEU")["epoch"] == 2
    rows = [{"trial": str(number), "score": 0.0, "val_loss": loss} for number, loss in enumerate((5.0, 3.0, 4.0))]
    assert max(rows, key=lambda row: rank_of_trial(row, "BLEU"))["trial"] == "1"
    assert rank_of_trial({"score": 2.0}, "loss") > rank_of_trial({"score": 3.0}, "loss")


def test_a_loss_has_the_name_of_the_metrics_file():
    assert "val_loss" in VALIDATED and "loss" not in VALIDATED and {"CIDEr", "BLEU", "chrF"} <= set(VALIDATED)
