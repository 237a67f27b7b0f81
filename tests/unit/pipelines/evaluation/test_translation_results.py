"""Translations to be scored: what the training has seen of them."""

from pipelines.evaluation.translation_results import seen_of


def test_sentences_that_chose_the_epoch_are_counted(tmp_path):
    (tmp_path / "val.en").write_text("a dog\na cat\n")
    section = {"validation_source": str(tmp_path / "val.en"), "columns": ["source", "target"]}
    assert seen_of(section, ["a cat", "a bird", "a dog"]) == {"trained_on": 0, "chose_epoch": 2}
    assert seen_of(section, ["a bird"]) == {"trained_on": 0, "chose_epoch": 0}
    assert seen_of(section | {"validation_source": str(tmp_path / "gone")}, ["a cat"]) is None
    assert seen_of({}, ["a cat"]) is None
