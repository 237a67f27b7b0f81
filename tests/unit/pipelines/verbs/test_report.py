"""The page of ``rnncond report``: whole in itself, everything escaped, and honest about what is missing."""

import json
import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.worlds import captioner
from tests.worlds.captioned import caption_set
from tests.worlds.command import rnncond
from tests.worlds.remote import put_run

VOID = {"meta", "img", "br", "hr", "input", "link"}
EVIL = "a <script>alert(1)</script> & \"dog\" 'x' </style>"


class Page(HTMLParser):
    """Text, attributes and scripts of a page; fails where tags do not balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.words, self.attributes, self.scripts, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes {self.open}"

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] in ("script", "style") else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def arrays(self) -> list[dict]:
        return [json.loads(script) for script in self.scripts if script.startswith('{"')]


def run(*arguments):
    return rnncond("report", *map(str, arguments), "--json")


def page_of(out) -> Page:
    return Page((out / "report.html").read_text())


@pytest.fixture
def evaluated(tmp_path):
    """A run that was trained and evaluated, with pictures, attention and a failure."""
    out = tmp_path / "run"
    out.mkdir()
    captioner.make_pictures(tmp_path / "images")
    weights = np.random.default_rng(0).dirichlet(np.ones(6), 3).round(5).tolist()
    rows = [
        {
            "image_id": name, "uri": str(tmp_path / "images" / name), "caption": "a red dog", "log_prob": -4.2,
            "others": ["a dog"], "references": [*said, EVIL], "scores": {"CIDEr": 10.0 * n, "BLEU-4": 1.0},
            "attention": {"rows": 2, "columns": 3, "pieces": ["a", " red", " dog"], "weights": weights},
        }
        for n, (name, said) in enumerate(captioner.CAPTIONS.items())
    ]  # fmt: skip
    write_lines(out / "evaluated.jsonl", rows)
    evaluation = {
        "model": {"id": "f" * 16, "system": "show_attend_tell", "folder": "runs/x"}, "split": "val", "images": 4,
        "features": {"fingerprint": "0" * 16, "output": "grid", "recipe": captioner.RECIPE},
        "search": {"beam": 5, "length_penalty": "average"}, "missing": ["e.png: <b>broken</b>"],
        "scores": {"CIDEr": 15.04, "BLEU-4": 7.0, "ROUGE_L": 33.3}, "tokenizer": "ptb", "comparability": "as published",
        "left_out": {"SPICE": "no models"}, "shuffled": {"CIDEr": 5.0, "ratio": 3.0},
    }  # fmt: skip
    (out / "evaluation.json").write_text(json.dumps(evaluation))
    epochs = [
        {"epoch": e, "train_loss": 5 - e, "val_loss": 5 - e / 2, "CIDEr": 5.0 * e, "BLEU-4": e} for e in (1, 2, 3)
    ]
    write_lines(out / "metrics.jsonl", epochs)
    samples = [{"epoch": e, "image_id": "a.png", "caption": f"caption of epoch {e}"} for e in (1, 2, 3)]
    write_lines(out / "samples.jsonl", samples)
    (out / "run.json").write_text('{"status": "finished"}')
    (out / "recipe.yaml").write_text("system: show_attend_tell\ntext:\n  level: <word>\n")
    return out


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_everything_is_on_the_page(evaluated, capsys):
    assert run(evaluated) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["pictures"] == 4 and said["page"] == str(evaluated / "report.html")
    page = page_of(evaluated)
    expected = [
        "show_attend_tell",
        "15.0",
        "7.0",
        "33.3",
        "3.0\u00d7",
        "as published",
        "Best",
        "Middle",
        "Worst",
        "a dog",
    ]
    expected += ["caption of epoch 1", "caption of epoch 3", "e.png: <b>broken</b>", "search: length penalty average"]
    expected += ["test/none grid", "no SPICE no models", "level: <word>", "CIDEr 30.0", "log P -4.20"]
    expected += [caption for said in captioner.CAPTIONS.values() for caption in said]
    assert [words for words in expected if words not in page.text.replace("\xa0", " ")] == []
    assert page.tags.count("svg") == 4
    assert page.text.count(EVIL) == 4


def test_the_page_needs_nothing_else(evaluated):
    run(evaluated)
    text = (evaluated / "report.html").read_text()
    page = Page(text)
    assert not re.findall(r"(?:https?:)?//[a-z]|file:|@import", re.sub(r"base64,[\w+/=]+", "", text).replace("// ", ""))
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "data"):
            assert value.startswith("data:image/" if tag == "img" else "#"), (tag, name, value)
    assert all(url.startswith("data:image/") for url in re.findall(r"url\(([^)]*)\)", text))
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("script") == 5  # four pictures' numbers and the page's own


def test_anchors_lead_somewhere(evaluated):
    run(evaluated)
    page = page_of(evaluated)
    targets = {value for _, name, value in page.attributes if name == "id"}
    links = {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert links and links <= targets


def test_attention_is_a_row_a_word_over_the_part_that_was_seen(evaluated):
    run(evaluated)
    page = page_of(evaluated)
    assert len(page.arrays) == len([name for _, name, _ in page.attributes if name == "data-crop"]) == 4
    for array in page.arrays:
        assert (array["rows"], array["columns"]) == (2, 3)
        assert np.shape(array["weights"]) == (3, 6)
        np.testing.assert_allclose(np.sum(array["weights"], axis=1), 1, atol=1e-3)
    crops = [value for _, name, value in page.attributes if name == "data-crop"]
    # Pictures of 48 x 24, resized to 24 and cut to 20 x 20.
    assert [list(map(float, crop.split())) for crop in crops] == [
        pytest.approx([14 / 48, 1 / 12, 34 / 48, 11 / 12])
    ] * 4
    assert sum(tag == "img" for tag in page.tags) == 4 * 3  # the strip


def test_a_picture_that_was_removed_is_told_and_fails_nothing(evaluated, tmp_path, capsys):
    (tmp_path / "images/a.png").unlink()
    assert run(evaluated) == 0
    out = capsys.readouterr().out
    assert "pictures not found" in out and "a.png" in out


def test_pictures_that_have_moved(evaluated, tmp_path, capsys):
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    assert run(evaluated) == 3
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["failed"] == 4
    page = page_of(evaluated)
    assert page.text.count("No picture:") == 4 and "a red dog" in page.text and not page.arrays
    assert run(evaluated, "--images", tmp_path / "elsewhere") == 0
    assert "No picture" not in page_of(evaluated).text


def test_pictures_beside_the_captions_of_people_are_found(evaluated, tmp_path):
    evaluation = json.loads((evaluated / "evaluation.json").read_text())
    (evaluated / "evaluation.json").write_text(json.dumps(evaluation | {"data": str(tmp_path / "captions.jsonl")}))
    rows = [json.loads(line) for line in (evaluated / "evaluated.jsonl").read_text().splitlines()]
    write_lines(
        evaluated / "evaluated.jsonl", [row | {"uri": "gone", "file": f"images/{row['image_id']}"} for row in rows]
    )
    assert run(evaluated) == 0


@pytest.mark.parametrize(("output", "kept"), [("regions", False), ("regions", True), ("grid", False)])
def test_the_page_says_why_regions_have_no_boxes(evaluated, output, kept):
    evaluation = json.loads((evaluated / "evaluation.json").read_text())
    evaluation["features"]["output"] = output
    (evaluated / "evaluation.json").write_text(json.dumps(evaluation))
    rows = [json.loads(line) for line in (evaluated / "evaluated.jsonl").read_text().splitlines()]
    if not kept:
        write_lines(evaluated / "evaluated.jsonl", [row | {"attention": None} for row in rows])
    assert run(evaluated) == 0
    said = "No boxes are drawn, because these captions were made without --attention." in page_of(evaluated).text
    assert said == (output == "regions" and not kept)


def test_fewer_pictures_and_another_place(evaluated, tmp_path):
    assert run(evaluated, "--count", 3, "--to", tmp_path / "new" / "page.html") == 0
    page = Page((tmp_path / "new" / "page.html").read_text())
    assert len(page.arrays) == 3
    assert not (evaluated / "report.html").exists()


def test_a_run_that_was_not_evaluated_has_its_curves(evaluated):
    for name in ("evaluated.jsonl", "evaluation.json"):
        (evaluated / name).unlink()
    data = captioner.make_captions(evaluated / "captions.jsonl")
    assert run(evaluated, "--data", data, "--images", evaluated.parent / "images") == 0
    page = page_of(evaluated)
    assert page.tags.count("svg") == 3 and "caption of epoch 3" in page.text
    assert "Best" not in page.text


def test_scores_of_an_earlier_model_are_told_with_the_command_that_scores_the_present_one(evaluated, bucket, capsys):
    uri = f"{bucket[0]}/runs/trained on"
    for model_id, outdated in (("f" * 16, False), ("0" * 16, True)):
        (evaluated / "best").mkdir(exist_ok=True)
        (evaluated / "best" / "model.json").write_text(json.dumps({"model_id": model_id}))
        put_run(evaluated, uri)
        for out, shown in ((evaluated, str(evaluated)), (uri, f"'{uri}'")):
            assert rnncond("report", str(out)) == 0
            told = capsys.readouterr().out
            assert (f"Next: rnncond evaluate --model {shown}" in told) == outdated
            assert ("of the model before the last training" in told) == outdated
        assert ("of the model before the last training" in page_of(evaluated).text) == outdated


def test_scores_of_a_set_whose_rows_have_changed_since_are_left_out_with_the_command_that_scores_it(tmp_path, capsys):
    out = tmp_path / "said of"
    captioner.make_pictures(tmp_path / "images")
    first, second, *_ = captioner.CAPTIONS
    caption_set(out, "m", {first: "a red dog", "unscored.png": "a cow"})
    lines = [{"image_id": id_, "file": id_, "split": "val", "captions": ["a red dog"]} for id_ in (first, second)]
    write_lines(tmp_path / "captions.jsonl", lines)
    people = str(tmp_path / "captions.jsonl")
    assert rnncond("evaluate", "--captions", str(out), "--references", people, "--tokenizer", "simple") == 3
    capsys.readouterr()
    assert rnncond("report", str(out), "--images", str(tmp_path / "images")) == 0
    assert "Next:" not in capsys.readouterr().out and "The scores are of" in page_of(out).text, (
        "a part of the set was scored"
    )

    caption_set(out, "m", {second: "a blue cat"})
    assert rnncond("report", str(out), "--images", str(tmp_path / "images")) == 0
    told = " ".join(capsys.readouterr().out.split())
    command = f"rnncond evaluate --captions '{out}' --data {people} --split val"
    assert "as it was before its rows changed, and are left out." in told and f"Next: {command}" in told
    page = page_of(out).text
    assert "a blue cat" in page and "3 pictures" in page and "The scores are of" not in page
    assert rnncond(*shlex.split(command)[1:], "--tokenizer", "simple") == 0, "as it is printed"
    capsys.readouterr()
    assert rnncond("report", str(out), "--images", str(tmp_path / "images")) == 0
    assert "Next:" not in capsys.readouterr().out and "The scores are of" in page_of(out).text


def test_captions_without_references_are_counted(evaluated, tmp_path, capsys):
    rows = [{"image_id": name, "caption": "a dog"} for name in (*captioner.CAPTIONS, "other.png")]
    write_lines(evaluated / "evaluated.jsonl", rows)
    data = captioner.make_captions(tmp_path / "captions.jsonl")
    run(evaluated, "--data", data, "--images", tmp_path / "images")
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["references"] == f"{len(rows) - 1} of {len(rows)} pictures have some"


def test_a_caption_of_nothing(evaluated):
    rows = [{"image_id": "a", "caption": ""}, {"image_id": "b", "caption": EVIL, "scores": {}}]
    write_lines(evaluated / "evaluated.jsonl", rows)
    assert run(evaluated) == 3
    assert "(nothing said)" in page_of(evaluated).text and EVIL in page_of(evaluated).text


def test_the_page_of_a_run_in_object_storage_lies_beside_it(evaluated, bucket, tmp_path, capsys):
    (evaluated / "run.json").write_text('{"status": "finished"}')
    uri = f"{bucket[0]}/runs/nightly"
    remote = put_run(evaluated, uri)
    assert run(evaluated) == run(uri)
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["page"] == f"{uri}/report.html"
    page = remote.files.read("report.html").decode()
    assert "a red dog" in page and "runs/nightly" not in page_of(evaluated).text
    run(uri, "--to", tmp_path / "page.html")
    assert "a red dog" in (tmp_path / "page.html").read_text()
    assert run(f"{bucket[0]}/nothing") == 2
    assert not (tmp_path / "s3:").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "nowhere has nothing to show"),
        (["images"], "images has nothing to show"),
        (["damaged"], "damaged has a damaged file"),
        (["listed"], "evaluation.json has [], expected a JSON object"),
        (["rows"], "evaluated.jsonl has 3, expected a JSON object"),
        (["run", "--to", "run/report.html/x"], "cannot be written"),
        (["run", "--count", "0"], "'--count'"),
        (["run", "--column", "de"], "--column is of translations, and run has captions"),
        (["run", "--to", "s3://bucket/page.html"], "not to s3://bucket/page.html; say --to FILE"),
        (["run", "--data", "nothing.jsonl"], "no file of captions"),
    ],
)
def test_mistakes(evaluated, tmp_path, capsys, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "evaluation.json").write_text("{")
    for name, file, content in (("listed", "evaluation.json", "[]"), ("rows", "evaluated.jsonl", "3\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(content)
    (evaluated / "report.html").write_text("")
    assert run(*arguments) == 2
    assert expected in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert not (tmp_path / "s3:").exists()
