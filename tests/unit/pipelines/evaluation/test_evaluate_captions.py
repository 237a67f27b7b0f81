"""``rnncond evaluate`` from the command line inwards: what is scored, what is written, what is told."""

import json

import pytest

from pipelines import errors
from pipelines.evaluation import output
from pipelines.evaluation.caption_metrics import caption_scores, shuffled_cider
from pipelines.evaluation.caption_results import read_hypotheses
from pipelines.files.jsonl import read_lines
from pipelines.verbs import evaluate
from tests.worlds import captioner
from tests.worlds.command import rnncond

IDS = [name[0] for name in captioner.CAPTIONS]
REFERENCES = {name[0]: said for name, said in captioner.CAPTIONS.items()}


def run(*arguments):
    return rnncond("evaluate", *map(str, arguments), "--json")


def last_line(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture
def world(tmp_path):
    """A run's folder with a model, its store, and captions of four pictures."""
    captioner.make_pictures(tmp_path / "images")
    data = captioner.make_captions(tmp_path / "captions.jsonl")
    fingerprint = captioner.make_store(tmp_path / "store", tmp_path / "images")
    captioner.make_model(tmp_path / "run" / "best", fingerprint, store=str(tmp_path / "store"), captions=str(data))
    return tmp_path


def test_a_model_is_scored_on_what_it_was_trained_with(world, capsys):
    assert run("--model", world / "run", "--tokenizer", "simple", "--shuffled", "--beam", 2) == 0
    said = last_line(capsys)
    evaluation = json.loads((world / "run" / "evaluation.json").read_text())
    rows = read_lines(world / "run" / "evaluated.jsonl")
    assert {row["image_id"] for row in rows} == set(captioner.CAPTIONS)
    hypotheses = {row["image_id"]: row["caption"] for row in rows}
    expected = caption_scores(hypotheses, captioner.CAPTIONS)
    assert said["CIDEr"] == pytest.approx(expected["CIDEr"])
    assert evaluation["scores"]["BLEU-1"] == pytest.approx(expected["BLEU-1"])
    assert (evaluation["split"], evaluation["images"], evaluation["search"]["beam"]) == ("val", 4, 2)
    assert evaluation["model"]["system"] == "show_attend_tell"
    assert evaluation["features"]["recipe"] == captioner.RECIPE
    assert "shuffled" in evaluation
    assert "our own tokenizer" in evaluation["comparability"]
    for row in rows:
        assert row["references"] == captioner.CAPTIONS[row["image_id"]]
        assert len(row["attention"]["pieces"]) == len(row["attention"]["weights"])


@pytest.mark.parametrize("model", ["", "best", "last", "averaged", "history/step-00001200"])
def test_results_lie_in_the_run_whichever_of_its_models_is_scored(tmp_path, model):
    """Not in a folder that the next training replaces."""
    found_at = tmp_path / "run" / (model or "best")
    assert evaluate.run_of(str(tmp_path / "run" / model), found_at) == str(tmp_path / "run")
    assert evaluate.run_of("models:/m@champion", found_at) is None
    assert evaluate.run_of(str(tmp_path / "mine"), tmp_path / "mine") == str(tmp_path / "mine")


def test_a_system_without_attention_and_another_folder(world, capsys):
    fingerprint = json.loads((world / "run" / "best" / "model.json").read_text())["features"]["fingerprint"]
    captioner.make_model(world / "plain", fingerprint, "show_tell")
    arguments = ["--model", world / "plain", "--tokenizer", "simple", "--out", world / "out"]
    assert run(*arguments) == 2
    assert "say --store and --data" in last_line(capsys)["error"]
    assert run(*arguments, "--store", world / "store", "--data", world / "captions.jsonl") == 0
    assert not any("attention" in row for row in read_lines(world / "out" / "evaluated.jsonl"))


def test_an_image_without_features_is_a_failure_that_is_named(world, capsys):
    fingerprint = captioner.make_store(world / "less", world / "images", without="b.png")
    captioner.make_model(world / "run" / "best", fingerprint)
    arguments = ["--store", world / "less", "--data", world / "captions.jsonl", "--tokenizer", "simple"]
    assert run("--model", world / "run", *arguments) == 3
    said = last_line(capsys)
    assert (said["images"], said["failed"]) == (3, 1)
    assert json.loads((world / "run" / "evaluation.json").read_text())["missing"] == [
        f"b.png: no features in {world / 'less'}"
    ]


def test_a_file_of_captions(world, capsys, tmp_path):
    lines = [json.dumps({"image_id": i, "caption": REFERENCES[i][0]}) for i in IDS]
    (tmp_path / "said.jsonl").write_text("\n".join(lines))
    arguments = ["--hypotheses", tmp_path / "said.jsonl", "--references", world / "captions.jsonl"]
    assert run(*arguments, "--tokenizer", "simple") == 0
    assert last_line(capsys)["BLEU-4"] == pytest.approx(
        caption_scores({i: REFERENCES[i][0] for i in IDS}, REFERENCES)["BLEU-4"]
    )
    assert sorted(path.name for path in tmp_path.glob("evaluat*")) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "Say one of --model, --captions, --translations, --hypotheses; found none"),
        (["--model", "x", "--captions", "y"], "found --model and --captions"),
        (["--model", "nowhere"], "There is no model nowhere"),
        (["--hypotheses", "said"], "Say --references FILE"),
        (["--hypotheses", "nothing", "--data", "captions.jsonl"], "nothing cannot be read"),
        (["--hypotheses", "said", "--data", "captions.jsonl"], "1 image (d) of 4 with references"),
        (["--hypotheses", "more", "--data", "captions.jsonl"], "1 caption (z) of 5"),
        (["--hypotheses", "more", "--data", "captions.jsonl", "--split", "test"], "it has val (4)"),
        (["--hypotheses", "twice", "--data", "captions.jsonl"], "line 2 is a second caption of the image 'a'"),
        (["--model", "run", "--split", "train"], "no images of the split 'train'; it has val (4)"),
        (["--captions", "images", "--data", "captions.jsonl"], "no output of `rnncond caption`"),
        (["--tokenizer", "spacy"], "'spacy' is not one of"),
    ],
)
def test_mistakes(world, capsys, monkeypatch, arguments, expected):
    monkeypatch.chdir(world)
    (world / "said").write_text("\n".join(f"{i}\tA dog" for i in "abc"))
    (world / "more").write_text("\n".join(f"{i}\tA dog" for i in "abcdz"))
    (world / "twice").write_text("a\tA dog\na\tA cat")
    assert run(*arguments) == 2
    assert expected in last_line(capsys)["error"]


@pytest.mark.parametrize(
    "text",
    [
        '[{"image_id": 1, "caption": "A dog"}, {"image_id": "b", "caption": ""}]',
        '{"image_id": 1, "caption": "A dog"}\n\n{"image_id": "b", "caption": ""}\n',
        "1\tA dog\nb\t\n",
        "\ufeff1\tA dog\nb\t\n",
    ],
)
def test_forms_of_a_file_of_captions(tmp_path, text):
    (tmp_path / "said").write_text(text)
    assert read_hypotheses(str(tmp_path / "said")) == {"1": "A dog", "b": ""}


def test_nothing_but_a_line_feed_ends_a_line_of_captions(tmp_path):
    said = {name: f"A{end}dog" for name, end in zip("abc", "\u2028\u2029\x85", strict=True)}
    (tmp_path / "lines").write_text("".join(f"{name}\t{caption}\n" for name, caption in said.items()))
    assert read_hypotheses(str(tmp_path / "lines")) == said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no captions"),
        ("a caption alone", "line 1: found 'a caption alone', expected ID<tab>caption"),
        ('{"image_id": 1}', "line 1: 'caption' is missing"),
        ('[{"caption": "A"}]', "entry 1: 'image_id' is missing"),
        ("[1", "cannot be read as JSON: Expecting"),
        ("[1]", "entry 1: found 1, expected a JSON object"),
        ('[["1", "A"]]', 'entry 1: found ["1", "A"], expected a JSON object'),
        ('["1\\tA"]', "entry 1: found \"1\\tA\", expected a JSON object"),
        ('{"image_id": 1, "caption": "A"}\n["1", "A"]', "line 2: found '[\"1\", \"A\"]', expected ID<tab>caption"),
        ('[{"image_id": [1], "caption": "A"}]', "entry 1: 'image_id' is [1], expected a whole number or a string"),
        ('[{"image_id": NaN, "caption": "A"}]', "entry 1: 'image_id' is NaN, expected a whole number or a string"),
        ('{"image_id": NaN, "caption": "A"}', "line 1: 'image_id' is NaN, expected a whole number or a string"),
        ('[{"image_id": 1, "caption": null}]', "entry 1: 'caption' is null, expected a string"),
        ("[" * 100_000, "cannot be read as JSON: nested too deeply"),
        ('{"a":' * 100_000, "line 1: nested too deeply"),
        (f'[{{"image_id": {"1" * 5000}}}]', "cannot be read as JSON: a number has thousands of digits"),
        (r'[{"image_id": 1, "caption": "A \ud83d"}]', r"entry 1: half of a character (a lone surrogate) in 'A \ud83d'"),
        (r'{"image_id": 1, "caption": "A \ud83d"}', r"line 1: half of a character (a lone surrogate) in 'A \ud83d'"),
        (r'{"image_id": "\ud83d", "caption": "A"}', r"line 1: half of a character (a lone surrogate) in '\ud83d'"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, capsys, text, expected):
    (tmp_path / "said").write_text(text)
    captioner.make_captions(tmp_path / "captions.jsonl")
    assert run("--hypotheses", tmp_path / "said", "--references", tmp_path / "captions.jsonl") == 2
    assert expected in last_line(capsys)["error"]


def test_shuffling_gives_every_image_anothers_caption():
    said = {name: lines[0] for name, lines in REFERENCES.items()}
    rounds = []
    for shift in (1, 2, 3):
        others = {name: said[IDS[(IDS.index(name) + shift) % 4]] for name in IDS}
        rounds.append(caption_scores(others, REFERENCES)["CIDEr"])
    # Three shuffles of four images are all the cyclic ones, in whatever order the images stand.
    assert shuffled_cider(said, REFERENCES, "simple", rounds=3) == pytest.approx(sum(rounds) / 3)
    assert shuffled_cider(dict.fromkeys(IDS, "a dog"), REFERENCES, "simple") == pytest.approx(
        caption_scores(dict.fromkeys(IDS, "a dog"), REFERENCES)["CIDEr"]
    )
    with pytest.raises(errors.UserError, match="two images"):
        shuffled_cider({"a": "a dog"}, {"a": ["a dog"]})


def test_results_are_written_whole_or_stay_as_they_were(tmp_path):
    output.write(tmp_path, {"scores": {"CIDEr": 1.0}}, [{"image_id": "a"}])
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("evaluat*")}
    with pytest.raises(TypeError):  # as a kill would, in the midst of it
        output.write(tmp_path, {"scores": {"CIDEr": 2.0}}, [{"image_id": "b"}, {"image_id": object()}])
    assert {path.name: path.read_bytes() for path in tmp_path.glob("evaluat*")} == kept
    output.write(tmp_path, {"scores": {"CIDEr": 3.0}}, [{"image_id": "c"}])
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"scores": {"CIDEr": 3.0}}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_part_of_the_pictures_is_scored_when_asked_and_the_others_are_counted(tmp_path, capsys):
    """Of four images with references two have a caption; one caption is of no image."""
    data = captioner.make_captions(tmp_path / "captions.jsonl")
    hypotheses = tmp_path / "results.json"
    said = {IDS[0]: "a dog", IDS[2]: "a cat", "nobody": "a bird"}
    hypotheses.write_text(json.dumps([{"image_id": name, "caption": text} for name, text in said.items()]))
    arguments = ["--hypotheses", hypotheses, "--references", data, "--tokenizer", "simple"]
    assert run(*arguments) == 2
    error = last_line(capsys)["error"]
    assert "2 images" in error and "--partial" in error
    assert run(*arguments, "--partial", "--out", tmp_path / "out") == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out.strip().splitlines()[-1])
    assert (summary["images"], summary["references without caption"], summary["captions without references"]) == (
        2,
        2,
        1,
    )
    assert IDS[1] in captured.err and "nobody" in captured.err
    expected = caption_scores({name: said[name] for name in (IDS[0], IDS[2])},
                              {name: REFERENCES[name] for name in (IDS[0], IDS[2])})  # fmt: skip
    assert summary["CIDEr"] == pytest.approx(expected["CIDEr"])
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert evaluation["not_scored"] == {"references_without_caption": 2, "captions_without_references": 1}


def test_results_with_cocos_ids_are_scored_on_karpathys_split(tmp_path, capsys):
    texts = {391895: "a man rides a motorcycle", 522418: "a woman cuts a cake"}
    images = [{"filepath": "val2014", "filename": f"COCO_val2014_{number:012d}.jpg", "cocoid": number, "split": "test",
               "sentences": [{"raw": text}]} for number, text in texts.items()]  # fmt: skip
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    results = [{"image_id": number, "caption": text} for number, text in texts.items()]
    (tmp_path / "results.json").write_text(json.dumps(results))
    arguments = ["--hypotheses", tmp_path / "results.json", "--references", tmp_path / "dataset_coco.json"]
    assert run(*arguments, "--split", "test", "--tokenizer", "simple") == 0
    summary = last_line(capsys)
    assert (summary["images"], summary["BLEU-4"]) == (2, pytest.approx(100))
