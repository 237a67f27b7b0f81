"""The page of ``rnncond report`` for translations: sentences, scores, matrices, and whole in itself."""

import json
import re

import numpy as np
import pyarrow as pa
import pytest

from feature_store import Store, failure_schema
from pipelines.inference.translator import prepare
from pipelines.inputs.corpus import Corpus
from pipelines.reporting import charts
from pipelines.reporting.load import ReportData
from pipelines.reporting.sentences import changed, labels, sentence_of, whole_words
from pipelines.verbs import translate
from tests.unit.pipelines.verbs.test_report import EVIL, Page, page_of, run, write_lines
from tests.worlds import translator as world

SOURCE = ["a", " red", " dog", " </s>"]
PIECES = ["ein", " roter", " Hu", "nd", "."]
WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(len(SOURCE)), len(PIECES)).round(4)


@pytest.fixture
def evaluated(tmp_path):
    """A run that was trained and evaluated, with attention, an empty translation and a failure."""
    out = tmp_path / "run"
    out.mkdir()
    seen = {"pieces": PIECES, "source_pieces": SOURCE, "weights": WEIGHTS.tolist()}
    rows = [
        {
            "id": f"{n:09d}", "source": "a red dog", "translation": "ein roter Hund.", "log_prob": -4.2,
            "others": ["ein Hund"], "references": ["der rote Hund", EVIL], "scores": {"BLEU": 1.0, "chrF": 10.0 * n},
            "attention": seen,
        }
        for n in range(4)
    ]  # fmt: skip
    rows[2] |= {"translation": "", "log_prob": None, "others": []}
    del rows[2]["attention"]
    rows[3] |= {"translation": EVIL, "source": EVIL}
    del rows[3]["attention"]
    write_lines(out / "evaluated.jsonl", rows)
    evaluation = {
        "kind": "translations", "model": {"id": "f" * 16, "system": "gnmt", "folder": "runs/x"}, "sentences": 4,
        "search": {"beam": 5, "coverage_beta": 0.2}, "missing": ["000000002: <b>long</b>"], "source": "test.en",
        "references": ["test.de"], "scores": {"BLEU": 35.31, "chrF": 58.2, "TER": 48.04},
        "bleu": "66/41/28/19 (BP = 1)",
        "signatures": {"BLEU": "nrefs:1|case:lc"}, "comparability": "lowercased, by sacrebleu",
    }  # fmt: skip
    (out / "evaluation.json").write_text(json.dumps(evaluation))
    epochs = [
        {"epoch": e, "train_loss": 5 - e, "val_loss": 5 - e / 2, "BLEU": 5.0 * e, "chrF": 9.0 * e} for e in (1, 2)
    ]
    write_lines(out / "metrics.jsonl", epochs)
    sample = {"id": "0", "source": "two birds fly", "references": ["zwei Vögel fliegen"]}
    write_lines(out / "samples.jsonl", [sample | {"epoch": e, "translation": f"said in {e}"} for e in (1, 2)])
    (out / "run.json").write_text('{"status": "finished"}')
    return out


def test_everything_is_on_the_page(evaluated, capsys):
    assert run(evaluated) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["sentences"] == 4
    page = page_of(evaluated)
    expected = ["gnmt", "4 sentences, beam 5", "35.3", "58.2", "48.0", "lowercased, by sacrebleu", "Best", "Worst"]
    expected += ["chrF 30.0", "BLEU 1.0", "log P -4.20", "a red dog", "der rote Hund", "ein Hund", "(nothing said)"]
    expected += ["000000002: <b>long</b>", "without a translation", "nrefs:1|case:lc", "66/41/28/19 (BP = 1)"]
    expected += [
        "search: coverage beta 0.2",
        "test.en",
        "two birds fly",
        "zwei Vögel fliegen",
        "said in 1",
        "said in 2",
    ]
    assert [words for words in expected if words not in page.text] == []
    assert page.text.count(EVIL) == 4 + 2
    assert page.tags.count("svg") == 4 + 2  # loss, BLEU, chrF, histogram, and two matrices
    assert "caption" not in page.text.lower() and "picture" not in page.text.lower()


def test_the_page_needs_nothing_else(evaluated):
    run(evaluated)
    text = (evaluated / "report.html").read_text()
    page = Page(text)
    assert not re.findall(r"(?:https?:)?//[a-z]|file:|@import|url\(", text.replace("// ", ""))
    assert all(value.startswith("#") for _, name, value in page.attributes if name in ("src", "href"))
    assert page.tags.count("script") == 3  # the weights of two sentences, and the page's own


def test_words_places_rows_and_weights_belong_together(evaluated):
    run(evaluated)
    page = page_of(evaluated)
    assert page.tags.count("button") == 2 * len(PIECES)
    for array in [json.loads(script) for script in page.scripts if script.startswith("[[")]:
        np.testing.assert_allclose(array, WEIGHTS, atol=1e-3)
    kinds = [value for _, name, value in page.attributes if name == "class"]
    assert kinds.count("place") == 2 * len(SOURCE) and kinds.count("row") == kinds.count("word") == 2 * len(PIECES)


def test_a_run_that_was_not_evaluated_has_its_curves(evaluated):
    for name in ("evaluated.jsonl", "evaluation.json"):
        (evaluated / name).unlink()
    assert run(evaluated) == 0
    page = page_of(evaluated)
    assert page.tags.count("svg") == 3 and "said in 2" in page.text and "Best" not in page.text


def test_what_translate_wrote_with_references_beside(tmp_path, capsys):
    corpus = world.write_text(tmp_path / "test.en", world.PAIRS)
    translator = prepare([world.make_translator(None)], ["m"], nbest=2, beam=2, attention=True)
    recipe = translate.recipe_of(translator, Corpus(str(corpus)))
    dataset = Store(tmp_path / "out").dataset("translations", recipe, translate.schema_of(True), id_column="id")
    said = translator(list(world.PAIRS))
    rows = [
        {"id": f"{n:09d}", "source": s, "version": ""} | one
        for n, (s, one) in enumerate(zip(world.PAIRS, said, strict=True))
    ]
    failed = {"id": "000000005", "uri": "x", "version": None, "stage": "compute", "reason": "too long", "tries": 1}
    with dataset.begin() as term:
        failures = pa.Table.from_pylist([failed], schema=failure_schema("id"))
        term.handle.commit("a", pa.Table.from_pylist(rows, schema=dataset.schema), failures)
    references = world.write_text(tmp_path / "test.de", [*world.PAIRS.values(), "nichts"])
    assert run(tmp_path / "out", "--data", references) == 0
    page = page_of(tmp_path / "out")
    expected = [*world.PAIRS, *world.PAIRS.values(), "Examples", "000000005: compute: too long", "test.en"]
    expected += [other["translation"] for one in said for other in one["nbest"][1:]]
    assert [words for words in expected if words not in page.text] == []
    assert page.tags.count("svg") == 5
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["references"] == "5 of 5 sentences have some"
    world.write_text(tmp_path / "less.de", ["nichts"])
    world.write_text(tmp_path / "named.tsv", ["id\ttarget", "a\tnichts"])
    refused = {"less.de": "has 6 sentences and", "named.tsv": "has no sentence 'a', which", "none.de": "no file"}
    for name, reason in refused.items():
        assert run(tmp_path / "out", "--data", tmp_path / name) == 2
        assert reason in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    world.write_text(tmp_path / "named.csv", ["id,de", "000000002,nur einer"])
    assert run(tmp_path / "out", "--data", tmp_path / "named.csv", "--column", "de") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["references"] == "1 of 5 sentences have some"
    assert run(tmp_path / "out", "--images", tmp_path) == 2
    assert "--images is where pictures are" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_references_of_what_changed_are_those_that_were_scored_or_of_data():
    rows = [{"id": id_, "source": "x", "change": "changed", "before": "one", "after": "another"} for id_ in "abc"]
    content = ReportData("out", rows=[{"id": "a", "translation": "another", "references": ["scored"]}])
    cards = changed(rows, content, {"a": ["of data"], "b": ["of data"]}, None)
    assert [list(card.references) for card in cards] == [["scored"], ["of data"], []]


def test_a_matrix_has_a_cell_a_weight_as_dark_as_it_is_great():
    drawn = charts.matrix(["ein", "<Hund>"], ["a", "dog", "x" * 40], np.array([[0.8, 0.0, 0.2], [0.4, 0.4, 0.2]]))
    page = Page(str(drawn))
    cells = re.findall(r'class="cell" x="([\d.]+)" y="([\d.]+)".*?fill-opacity="([\d.]+)"', str(drawn))
    opacity = [float(cell[2]) for cell in cells]
    assert opacity == [1.0, 0.25, 0.5, 0.5, 0.25]  # of the greatest; nothing is drawn of a weight of 0
    xs, ys = [float(cell[0]) for cell in cells], [float(cell[1]) for cell in cells]
    assert [xs[1] - xs[0], xs[3] - xs[2]] == pytest.approx([2 * charts.CELL, charts.CELL])
    assert ys[0] == ys[1] != ys[2] == ys[4]
    assert "<Hund>" in page.text and "x" * 15 + "…" in page.text and "x" * 16 not in page.text


def test_a_translation_without_a_word_has_no_attention_to_draw():
    seen = {"pieces": [], "source_pieces": ["a", " b"], "weights": []}
    sentence = sentence_of({"id": "1", "translation": "", "source": "a b", "attention": seen}, {})
    assert not sentence.weights.size and not list(sentence.source_pieces)


def test_pieces_as_labels_and_as_words():
    assert labels(PIECES) == ["ein", "roter", "Hu", "·nd", "."]
    assert whole_words(PIECES) == [["ein"], ["roter"], ["Hu", "nd", "."]]
    assert labels([]) == whole_words([]) == []
