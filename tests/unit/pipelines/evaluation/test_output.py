"""What an evaluation leaves behind, and which rows a report shows."""

import json

import pytest

from pipelines.evaluation import output
from pipelines.evaluation.results import CAPTIONS, TRANSLATIONS, Results


def results_of(*rows):
    return Results(CAPTIONS, list(rows))


def test_results_are_written_whole_or_stay_as_they_were(tmp_path):
    output.write(tmp_path, {"scores": {"CIDEr": 1.0}}, results_of({"image_id": "a"}))
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("evaluat*")}
    with pytest.raises(TypeError):  # as a kill would, in the midst of it
        output.write(tmp_path, {"scores": {"CIDEr": 2.0}}, results_of({"image_id": "b"}, {"image_id": object()}))
    assert {path.name: path.read_bytes() for path in tmp_path.glob("evaluat*")} == kept
    output.write(tmp_path, {"scores": {"CIDEr": 3.0}}, results_of({"image_id": "c"}))
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"scores": {"CIDEr": 3.0}}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        ({"data": "c.jsonl", "split": "val"}, "the split val of c.jsonl"),
        ({"data": "c.jsonl", "split": "test", "captions": "out"}, "out, against the split test of c.jsonl"),
        ({"hypotheses": "h.json", "data": "c.json", "split": None}, "h.json, against c.json"),
        ({"source": "t.en", "references": ["a.de", "b.de"]}, "t.en, against a.de, b.de"),
        ({"source": "pairs.tsv", "references": ["pairs.tsv"]}, "pairs.tsv"),
        ({"translations": "out", "references": ["t.de"]}, "out, against t.de"),
        ({"model": {"id": "x"}}, ""),
    ],
)
def test_what_was_scored_in_words(evaluation, words):
    assert output.scored(evaluation) == words


def test_scores_of_other_data_do_not_take_the_place_in_silence(tmp_path):
    val, test = ({"data": "c.jsonl", "split": split, "scores": {"CIDEr": 1.0}} for split in ("val", "test"))
    assert output.write(tmp_path, val, results_of({"image_id": "a"})) == ""
    assert output.write(tmp_path, val, results_of({"image_id": "a"})) == ""
    replaced = output.write(tmp_path, test, results_of({"image_id": "b"}))
    assert replaced == "the split val of c.jsonl"
    told = output.outcome(evaluated(data="c.jsonl", split="test"), CAPTIONS, "run/evaluation.json", replaced).summary
    assert told["scored"] == "the split test of c.jsonl"
    assert told["in place of"] == "the scores of the split val of c.jsonl; another --out keeps both"
    of_sets = [{"translations": "o", "references": ["t.de"], "set": name, "scores": {"BLEU": 1.0}} for name in "ab"]
    for evaluation in of_sets:
        replaced = output.write(tmp_path, evaluation, results_of({"image_id": "b"}))
    assert replaced == "o, its set a, against t.de", "which may be another model's"
    assert "in place of" not in output.outcome(evaluated(), CAPTIONS, "run/evaluation.json").summary


def test_what_was_drawn_has_a_number_of_samples_and_no_beam():
    drawn = output.outcome(evaluated(search={"beam": 1, "samples": 2}), CAPTIONS, None).summary
    assert drawn["samples"] == 2 and "beam" not in drawn
    assert output.outcome(evaluated(search={"beam": 5}), CAPTIONS, None).summary["beam"] == 5


@pytest.mark.parametrize(("kind", "score"), [(CAPTIONS, "CIDEr"), (TRANSLATIONS, "chrF")])
def test_the_best_the_middle_and_the_worst_are_shown(kind, score):
    rows = [{kind.id_key: str(n), "scores": {score: n}} for n in range(30)]
    chosen = output.choose(rows, 6, kind)
    assert {name: [row["scores"][score] for row in group] for name, group in chosen.items()} == {
        "Best": [29, 28],
        "Middle": [15, 14],
        "Worst": [1, 0],
    }


def evaluated(**more):
    return {
        "images": 30, "scores": {"BLEU-4": 20.0}, "brevity_penalty": 0.8, "missing": ["x: gone"],
        "without_brevity_penalty": {"BLEU-1": 50.0, "BLEU-4": 25.0}, "tokenizer": "simple", "comparability": "nearly",
        **more,
    }  # fmt: skip


def test_the_summary_has_bleu_with_and_without_the_brevity_penalty_by_name():
    told = output.outcome(evaluated(), CAPTIONS, None)
    penalty = "0.800: the texts are shorter than their references, and it is a factor of BLEU-1 / BLEU-4 above"
    assert told.summary["brevity penalty"] == penalty
    assert told.summary["without that penalty"] == "BLEU-1 / BLEU-4: 50.0 / 25.0"
    assert (told.failed, told.failures) == (1, ["x: gone"])
    whole = evaluated(brevity_penalty=1.0)
    assert "the texts are not shorter than" in output.about_bleu(whole)["brevity penalty"]
    long = output.about_bleu(whole | {"length_ratio": 1.84})["brevity penalty"]
    assert long == "1.000: the texts are 1.8 times as long as their references, which it does not punish"


def test_the_summary_says_to_what_sentences_were_cut():
    assert output.outcome(evaluated(cut=8, max_source_length=50), CAPTIONS, None).summary["cut to 50 tokens"] == 8


def test_the_summary_warns_of_pictures_that_the_training_has_seen():
    seen = output.outcome(evaluated(seen={"trained_on": 2, "chose_epoch": 30}), CAPTIONS, None).summary
    assert seen["also trained on"] == "2 of 30 images: of new images expect less"
    assert seen["also chose the epoch"] == "30 of 30 images: of new images expect less"
    called = output.about_seen(evaluated(seen={"trained_on": 0, "chose_epoch": 9}), "pictures")
    assert called == {"also chose the epoch": "9 of 30 pictures: of new pictures expect less"}
    for unseen in (evaluated(), evaluated(seen={"trained_on": 0, "chose_epoch": 0})):
        assert not [name for name in output.outcome(unseen, CAPTIONS, None).summary if name.startswith("also")]


def rows(*ciders):
    return [{"image_id": str(number), "scores": {"CIDEr": cider}} for number, cider in enumerate(ciders)]


@pytest.mark.parametrize(("images", "count"), [(1, 24), (2, 24), (5, 24), (7, 7), (8, 5), (24, 24), (9, 1), (9, 2)])
def test_no_picture_is_shown_twice_and_none_is_left_out_without_need(images, count):
    chosen = [row["image_id"] for group in output.choose(rows(*range(images)), count).values() for row in group]
    assert len(chosen) == len(set(chosen)) == min(images, count)
    assert output.choose([], 3) == {}


def test_without_scores_the_pictures_are_spread_evenly():
    assert [row["image_id"] for row in output.choose([{"image_id": n} for n in range(9)], 3)["Examples"]] == [0, 4, 8]
