"""``rnncond evaluate`` of translations: which are meant, what is scored, what is written, what is told."""

import gzip
import json
import re

import pyarrow as pa
import pytest
import sacrebleu

from feature_store import Store, failure_schema
from pipelines.files.jsonl import read_lines
from pipelines.inference.translator import prepare
from pipelines.inputs.corpus import Corpus
from pipelines.verbs import translate
from rnncond import checkpoint
from tests.worlds import captioner
from tests.worlds import translator as world
from tests.worlds.command import rnncond

SOURCES, TARGETS = list(world.PAIRS), list(world.PAIRS.values())


def run(*arguments):
    return rnncond("evaluate", *map(str, arguments), "--json")


def last_line(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def bleu(said, lowercase=True):
    return sacrebleu.corpus_bleu(said, [TARGETS], lowercase=lowercase).score


@pytest.fixture
def folder(tmp_path):
    """A run with a model, and its validation text."""
    source, target = world.write_text(tmp_path / "val.en", SOURCES), world.write_text(tmp_path / "val.de", TARGETS)
    data = {"validation_source": str(source), "validation_target": str(target)}
    world.make_translator(tmp_path / "run" / "best", **data)
    return tmp_path


def expected_of(folder, **asked):
    return prepare([checkpoint.load(folder / "run" / "best")], ["m"], **asked)(SOURCES)


def test_a_model_is_scored_on_the_text_it_was_validated_on(folder, capsys):
    assert run("--model", folder / "run", "--beam", 2) == 0
    said = last_line(capsys)
    evaluation = json.loads((folder / "run" / "evaluation.json").read_text())
    rows = read_lines(folder / "run" / "evaluated.jsonl")
    expected = expected_of(folder, beam=2, attention=True)
    assert [row["translation"] for row in rows] == [row["translation"] for row in expected]
    assert said["BLEU"] == evaluation["scores"]["BLEU"] == bleu([row["translation"] for row in rows])
    assert "case:lc" in said["BLEU signature"] and "lowercased as the model writes" in said["scored"]
    assert (evaluation["sentences"], evaluation["search"]["beam"], evaluation["lowercase"]) == (5, 2, True)
    assert evaluation["model"]["system"] == "encdec_bidirectional" and evaluation["kind"] == "translations"
    for row, sentence, target, one in zip(rows, SOURCES, TARGETS, expected, strict=True):
        assert (row["source"], row["references"]) == (sentence, [target])
        assert row["attention"]["pieces"] == one["pieces"]
        assert row["attention"]["source_pieces"] == one["source_pieces"]
        assert row["attention"]["weights"][0] == pytest.approx(one["attention"][0].tolist(), abs=1e-3)
        single = sacrebleu.sentence_chrf(row["translation"].lower(), [target.lower()])
        assert row["scores"]["chrF"] == pytest.approx(single.score, abs=0.01)


def test_other_text_another_case_and_a_table(folder, capsys):
    pairs = "".join(f"{source}\t{target}\n" for source, target in world.PAIRS.items())
    (folder / "pairs.tsv").write_text("source\ttarget\n" + pairs)
    said = [row["translation"] for row in expected_of(folder, beam=5)]
    for arguments in (
        ["--references", folder / "val.de", "--source", folder / "val.en"],
        ["--source", folder / "pairs.tsv"],
    ):
        assert run("--model", folder / "run", *arguments, "--cased", "--out", folder / "out") == 0
        found = last_line(capsys)
        assert found["BLEU"] == bleu(said, lowercase=False)
        assert "case:mixed" in found["BLEU signature"] and "although the model writes lower case" in found["scored"]
    assert len(read_lines(folder / "out" / "evaluated.jsonl")) == 5


def test_a_system_without_attention(folder, capsys):
    world.make_translator(folder / "plain", "encdec")
    arguments = ["--source", folder / "val.en", "--references", folder / "val.de"]
    assert run("--model", folder / "plain", *arguments) == 0
    assert not any("attention" in row for row in read_lines(folder / "plain" / "evaluated.jsonl"))
    assert run("--model", folder / "plain") == 2
    assert "say --source and --references" in last_line(capsys)["error"]


@pytest.fixture
def output(folder):
    """An output of ``rnncond translate`` in two parts, the fourth sentence refused; no Ray is needed to write one."""
    translator = prepare([checkpoint.load(folder / "run" / "best")], ["m"], attention=True)
    recipe = translate.recipe_of(translator, Corpus.open(str(folder / "val.en")))
    dataset = Store(folder / "out").dataset("translations", recipe, translate.schema_of(True), id_column="id")
    given = [{"id": f"{number:09d}", "source": sentence, "version": ""} for number, sentence in enumerate(SOURCES)]
    rows = [row | said for row, said in zip(given, translator(SOURCES), strict=True)]
    failed = {
        "id": rows.pop(3)["id"],
        "uri": "val.en",
        "version": None,
        "stage": "compute",
        "reason": "long",
        "tries": 1,
    }
    with dataset.begin() as term:
        for name, some in (("b", rows[2:]), ("a", rows[:2])):
            term.handle.commit(name, pa.Table.from_pylist(some, schema=dataset.schema))
        term.handle.commit("failed", None, pa.Table.from_pylist([failed], schema=failure_schema("id")))
    return [row["translation"] for row in rows]


def test_what_translate_wrote_with_what_failed_as_empty(folder, output, capsys):
    assert run("--translations", folder / "out", "--references", folder / "val.de") == 3
    found = last_line(capsys)
    said = [*output[:3], "", output[3]]
    assert found["BLEU"] == bleu(said) and (found["sentences"], found["failed"]) == (5, 1)
    rows = read_lines(folder / "out" / "evaluated.jsonl")
    assert [row["translation"] for row in rows] == said
    assert [row["references"][0] for row in rows] == TARGETS
    assert ["attention" in row for row in rows] == [True, True, True, False, True]
    assert json.loads((folder / "out" / "evaluation.json").read_text())["missing"] == ["000000003: long"]


def test_references_of_another_corpus_are_refused(folder, output, capsys):
    world.write_text(folder / "less.de", TARGETS[:4])
    assert run("--translations", folder / "out", "--references", folder / "less.de") == 2
    assert f"{folder / 'out'} has 5 sentences and {folder / 'less.de'} has 4" in last_line(capsys)["error"]
    lines = [
        json.dumps({"id": name, "source": "", "target": line}) for name, line in zip("abcde", TARGETS, strict=True)
    ]
    world.write_text(folder / "named.jsonl", lines)
    assert run("--translations", folder / "out", "--references", folder / "named.jsonl") == 2
    assert "has no sentence 'a'" in last_line(capsys)["error"]


def test_files_of_lines(folder, capsys):
    said = [line.upper() for line in TARGETS[:4]] + ["ein Mann"]
    with gzip.open(folder / "said.de.gz", "wt") as file:
        file.writelines(f"{line}\n" for line in said)
    arguments = ["--hypotheses", folder / "said.de.gz", "--references", folder / "val.de"]
    assert run(*arguments) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out.splitlines()[-1])
    assert f"Scoring translations, line by line: so {folder / 'val.de'} looks" in shown.err
    assert found["BLEU"] == bleu(said, lowercase=False) and "case:mixed" in found["BLEU signature"]
    assert run(*arguments, "--lowercase", "--source", folder / "val.en", "--out", folder / "scored") == 0
    assert last_line(capsys)["BLEU"] == bleu(said)
    rows = read_lines(folder / "scored" / "evaluated.jsonl")
    assert [row["source"] for row in rows] == SOURCES and rows[0]["scores"]["chrF"] == 100
    other = world.write_text(folder / "second.de", [*TARGETS[:4], "ein Mann"])
    assert run(*arguments, "--references", other, "--lowercase") == 0
    both = last_line(capsys)
    assert both["BLEU"] == pytest.approx(100) and "nrefs:2" in both["BLEU signature"]


def test_what_the_references_look_like_can_be_overruled(folder, capsys):
    data = captioner.make_captions(folder / "captions.jsonl")
    world.write_text(folder / "said", [f"{name[0]}\ta dog" for name in captioner.CAPTIONS])
    arguments = ["--hypotheses", folder / "said", "--tokenizer", "simple", "--references"]
    assert run(*arguments, data) == 0
    assert "Scoring captions of images" in capsys.readouterr().err
    assert run("--hypotheses", folder / "val.de", "--references", folder / "val.de", "--kind", "captions") == 2
    assert "Expected COCO results" in last_line(capsys)["error"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--hypotheses", "less.de", "--references", "val.de"], "less.de has 4 sentences and .*val.de has 5"),
        (["--hypotheses", "val.de", "--references", "nowhere"], "nowhere cannot be read"),
        (["--hypotheses", "val.de", "--references", "pairs.jsonl"], "has no 'target', the translation, of 5 rows"),
        (["--hypotheses", "val.de", "--references", "val.de", "--split", "val"], "--split is of captions"),
        (["--model", "run", "--shuffled", "--store", "x"], "--store and --shuffled is of captions"),
        (["--model", "run", "--kind", "text"], "--kind is of --hypotheses"),
        (["--model", "run", "--source", "val.en"], "Say --references FILE"),
        (["--model", "run", "--references", "val.de"], "Say --source FILE, too"),
        (["--model", "run", "--source", "val.en", "--references", "less.de"], "5 sentences and .*less.de has 4"),
        (["--translations", "out"], "Say --references FILE"),
        (["--translations", "run", "--references", "val.de"], "no output of `rnncond translate`"),
        (["--captions", "out", "--references", "val.de", "--lowercase"], "--lowercase is of translations"),
        (["--translations", "s3://bucket/out", "--references", "val.de"], "say --out FOLDER"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes(folder, capsys, monkeypatch, arguments, expected):
    monkeypatch.chdir(folder)
    world.write_text(folder / "less.de", TARGETS[:4])
    world.write_text(folder / "pairs.jsonl", [json.dumps({"source": line}) for line in SOURCES])
    assert run(*arguments) == 2
    found = last_line(capsys)["error"]
    assert re.search(expected, found), found
