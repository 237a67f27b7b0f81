"""``rnncond evaluate`` from the command line inwards, of captions and of translations."""

import gzip
import json
import re

import pyarrow as pa
import pytest
import sacrebleu

from feature_store import Store, failure_schema
from pipelines.evaluation.caption_metrics import score
from pipelines.files.jsonl import read_lines
from pipelines.inference.decoder import about_models
from pipelines.inference.translator import prepare
from pipelines.inputs.corpus import Corpus
from pipelines.verbs import evaluate, translate
from rnncond import checkpoint
from tests.worlds import captioner, translator
from tests.worlds.command import rnncond
from tests.worlds.remote import put_run

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


@pytest.mark.heavy
def test_scores_of_a_run_in_object_storage_are_kept_with_it(world, bucket, capsys):
    uri = f"{bucket[0]}/runs/nightly"
    (world / "run" / "run.json").write_text('{"status": "finished"}')
    remote = put_run(world / "run", uri)
    assert run("--model", uri, "--tokenizer", "simple") == 0
    printed = last_line(capsys)
    texts = remote.read().texts
    evaluation = json.loads(texts["evaluation.json"])
    assert printed["CIDEr"] == pytest.approx(evaluation["scores"]["CIDEr"])
    assert len(texts["evaluated.jsonl"].splitlines()) == len(captioner.CAPTIONS)
    assert "run.json" in texts and remote.writer() is None
    writer = remote.begin()
    assert run("--model", f"{uri}/best", "--tokenizer", "simple") == 2
    assert "is being written" in last_line(capsys)["error"]
    writer.close()
    assert run("--model", uri, "--out", f"{bucket[0]}/other", "--tokenizer", "simple") == 2
    assert "is neither. Say --out FOLDER" in last_line(capsys)["error"]


def test_a_model_is_scored_on_what_it_was_trained_with(world, capsys):
    assert run("--model", world / "run", "--tokenizer", "simple", "--shuffled", "--beam", 2) == 0
    said = last_line(capsys)
    evaluation = json.loads((world / "run" / "evaluation.json").read_text())
    rows = read_lines(world / "run" / "evaluated.jsonl")
    assert {row["image_id"] for row in rows} == set(captioner.CAPTIONS)
    hypotheses = {row["image_id"]: row["caption"] for row in rows}
    expected = score(hypotheses, captioner.CAPTIONS, "simple", java_scores=False).corpus
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


def test_a_model_is_scored_with_another_search_than_its_recipes(world, capsys):
    search = {"length_penalty": "gnmt", "alpha": 0.8, "no_repeat_ngram": 1, "max_length": 2}
    options = [part for name, value in search.items() for part in (f"--{name.replace('_', '-')}", value)]
    assert run("--model", world / "run", "--tokenizer", "simple", *options) == 0
    evaluation = json.loads((world / "run" / "evaluation.json").read_text())
    assert search.items() <= evaluation["search"].items()
    for row in read_lines(world / "run" / "evaluated.jsonl"):
        words = row["caption"].split()
        assert len(words) <= 2 and len(set(words)) == len(words)


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
    arguments += ["--store", world / "store", "--data", world / "captions.jsonl"]
    assert run(*arguments, "--coverage-penalty", 0.1) == 2
    assert "does not attend; leave out --coverage-penalty" in last_line(capsys)["error"]
    assert run(*arguments) == 0
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
    expected = score({i: REFERENCES[i][0] for i in IDS}, REFERENCES, "simple", java_scores=False).corpus
    assert last_line(capsys)["BLEU-4"] == pytest.approx(expected["BLEU-4"])
    assert sorted(path.name for path in tmp_path.glob("evaluat*")) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "Say one of --model, --captions, --translations, --hypotheses; found none"),
        (["--model", "x", "--captions", "y"], "found --model and --captions"),
        (["--hypotheses", "said"], "Say --references FILE"),
        (["--hypotheses", "nothing", "--data", "captions.jsonl"], "nothing cannot be read"),
        (["--hypotheses", "said", "--data", "captions.jsonl"], "1 image (d) of 4 with references"),
        (["--hypotheses", "more", "--data", "captions.jsonl"], "1 caption (z) of 5"),
        (["--hypotheses", "more", "--data", "captions.jsonl", "--split", "test"], "it has val (4)"),
        (["--hypotheses", "twice", "--data", "captions.jsonl"], "line 2 is a second caption of the image 'a'"),
        (["--model", "run", "--split", "train"], "no images of the split 'train'; it has val (4)"),
        (["--captions", "images", "--data", "captions.jsonl"], "no output of `rnncond caption`"),
        (["--captions", "images", "--alpha", 1, "--beam", 3], "--beam and --alpha: only --model is searched here"),
        (["--hypotheses", "said", "--coverage-penalty", 0.1], "--coverage-penalty: only --model is searched here"),
        (["--model", "run", "--min-length", 9, "--max-length", 2], "min_length is 9, above max_length 2"),
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
    known = (IDS[0], IDS[2])
    hypotheses, references = ({name: texts[name] for name in known} for texts in (said, REFERENCES))
    expected = score(hypotheses, references, "simple", java_scores=False).corpus
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


SOURCES, TARGETS = list(translator.PAIRS), list(translator.PAIRS.values())


def bleu(said, lowercase=True):
    return sacrebleu.corpus_bleu(said, [TARGETS], lowercase=lowercase).score


@pytest.fixture
def folder(tmp_path):
    """A run with a model, and its validation text."""
    source, target = (
        translator.write_text(tmp_path / "val.en", SOURCES),
        translator.write_text(tmp_path / "val.de", TARGETS),
    )
    data = {"validation_source": str(source), "validation_target": str(target)}
    translator.make_translator(tmp_path / "run" / "best", **data)
    return tmp_path


def translations_of(folder, **asked):
    return prepare([checkpoint.load(folder / "run" / "best")], ["m"], **asked)(SOURCES)


def test_a_translator_is_scored_on_the_text_it_was_validated_on(folder, capsys):
    assert run("--model", folder / "run", "--beam", 2) == 0
    summary = last_line(capsys)
    evaluation = json.loads((folder / "run" / "evaluation.json").read_text())
    rows = read_lines(folder / "run" / "evaluated.jsonl")
    expected = translations_of(folder, beam=2, attention=True)
    assert [row["translation"] for row in rows] == [row["translation"] for row in expected]
    assert summary["BLEU"] == evaluation["scores"]["BLEU"] == bleu([row["translation"] for row in rows])
    assert "case:lc" in summary["BLEU signature"]
    assert "lowercased as the model's vocabulary is" in summary["comparability"]
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
    pairs = "".join(f"{source}\t{target}\n" for source, target in translator.PAIRS.items())
    (folder / "pairs.tsv").write_text("source\ttarget\n" + pairs)
    said = [row["translation"] for row in translations_of(folder, beam=5)]
    for arguments in (
        ["--references", folder / "val.de", "--source", folder / "val.en"],
        ["--source", folder / "pairs.tsv"],
    ):
        assert run("--model", folder / "run", *arguments, "--cased", "--out", folder / "out") == 0
        found = last_line(capsys)
        assert found["BLEU"] == bleu(said, lowercase=False)
        assert "case:mixed" in found["BLEU signature"]
        assert "although the model's vocabulary has no capitals" in found["comparability"]
    assert len(read_lines(folder / "out" / "evaluated.jsonl")) == 5


def test_a_translator_without_attention(folder, capsys):
    translator.make_translator(folder / "plain", "encdec")
    arguments = ["--source", folder / "val.en", "--references", folder / "val.de"]
    assert run("--model", folder / "plain", *arguments) == 0
    assert not any("attention" in row for row in read_lines(folder / "plain" / "evaluated.jsonl"))
    assert run("--model", folder / "plain") == 2
    assert "say --source and --references" in last_line(capsys)["error"]


@pytest.fixture
def translated(folder):
    """An output of ``rnncond translate`` in two parts, the fourth sentence refused; no Ray is needed to write one."""
    translator = prepare([checkpoint.load(folder / "run" / "best")], ["m"], attention=True)
    recipe = translate.recipe_of(translator, Corpus(str(folder / "val.en")))
    schema, about = translate.schema_of(True), about_models(translator.trained, ["m"])
    dataset = Store(folder / "out").dataset("translations", recipe, schema, id_column="id", about=about)
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


def test_what_translate_wrote_with_what_failed_as_empty(folder, translated, capsys):
    assert run("--translations", folder / "out", "--references", folder / "val.de") == 3
    found = last_line(capsys)
    said = [*translated[:3], "", translated[3]]
    assert found["BLEU"] == bleu(said) and (found["sentences"], found["failed"]) == (5, 1)
    assert found["also chose the epoch"].startswith("4 of 5 sentences"), "all that were translated are of val.en"
    rows = read_lines(folder / "out" / "evaluated.jsonl")
    assert [row["translation"] for row in rows] == said
    assert [row["references"][0] for row in rows] == TARGETS
    assert ["attention" in row for row in rows] == [True, True, True, False, True]
    assert json.loads((folder / "out" / "evaluation.json").read_text())["missing"] == ["000000003: long"]


def test_references_of_another_corpus_are_refused(folder, translated, capsys):
    translator.write_text(folder / "less.de", TARGETS[:4])
    assert run("--translations", folder / "out", "--references", folder / "less.de") == 2
    assert f"{folder / 'out'} has 5 sentences and {folder / 'less.de'} has 4" in last_line(capsys)["error"]
    lines = [
        json.dumps({"id": name, "source": "", "target": line}) for name, line in zip("abcde", TARGETS, strict=True)
    ]
    translator.write_text(folder / "named.jsonl", lines)
    assert run("--translations", folder / "out", "--references", folder / "named.jsonl") == 2
    error = last_line(capsys)["error"]
    assert "has no sentence 'a'" in error and ".tsv or .parquet with id and target" in error


@pytest.mark.parametrize(("name", "between", "column"), [("refs.tsv", "\t", "target"), ("pairs.csv", ",", "de")])
def test_references_of_a_table_are_matched_by_id_whatever_their_order(
    folder, translated, capsys, name, between, column
):
    rows = [f"{number:09d}{between}{line}" for number, line in enumerate(TARGETS)]
    references = translator.write_text(folder / name, [f"id{between}{column}", *reversed(rows)])
    arguments = ["--translations", folder / "out", "--references", references]
    if column != "target":
        assert run(*arguments) == 2
        assert "no column 'target'" in (error := last_line(capsys)["error"])
        assert "Name the references' column: --column de." in error
        arguments += ["--column", column]
    assert run(*arguments) == 3  # one sentence has no translation
    assert last_line(capsys)["BLEU"] == bleu([*translated[:3], "", translated[3]])


def test_sentences_without_a_counterpart_by_id_are_counted_and_the_others_scored(folder, translated, capsys):
    """The second sentence was removed from the references' table, and one came that was never translated."""
    rows = [f"{number:09d}\t{line}" for number, line in enumerate(TARGETS) if number != 1]
    references = translator.write_text(folder / "refs.tsv", ["id\ttarget", *rows, "new\tein Haus"])
    assert run("--translations", folder / "out", "--references", references) == 3
    found = last_line(capsys)
    said, people = [translated[0], translated[2], "", translated[3]], [TARGETS[n] for n in (0, 2, 3, 4)]
    assert found["BLEU"] == sacrebleu.corpus_bleu(said, [people], lowercase=True).score
    assert (found["sentences"], found["translations without references"], found["failed"]) == (4, 1, 2)
    missing = json.loads((folder / "out" / "evaluation.json").read_text())["missing"]
    assert missing == ["000000003: long", f"new: no translation in {folder / 'out'}, so not scored"]


def test_tables_with_ids_are_matched_by_these_whatever_their_order_and_number(folder, capsys):
    said = [(f"s{number}", line) for number, line in enumerate(["ein Hund", "eine Katze", "ein Mann"])]
    rows = [f"{name}\t{line}" for name, line in reversed(said)]
    hypotheses = translator.write_text(folder / "said.tsv", ["id\ttranslation", *rows])
    people = [f"s{number}\t{line}" for number, line in enumerate(TARGETS[:2])]
    references = translator.write_text(folder / "refs.tsv", ["id\ttarget", *people])
    arguments = ["--hypotheses", hypotheses, "--references", references, "--kind", "text"]
    assert run(*arguments) == 0
    shown = capsys.readouterr()
    assert f"{hypotheses} and {references} are matched by their ids." in shown.err
    found = json.loads(shown.out.splitlines()[-1])
    assert found["BLEU"] == sacrebleu.corpus_bleu(["ein Hund", "eine Katze"], [TARGETS[:2]]).score
    assert (found["sentences"], found["translations without references"]) == (2, 1)
    translator.write_text(folder / "said.tsv", ["id\ttranslation", *rows[1:2]])
    assert run(*arguments) == 2
    assert "said.tsv has no sentence 's0'" in last_line(capsys)["error"]


def test_translations_of_a_sentence_that_was_edited_since_are_counted(folder, translated, capsys):
    """The fourth has no translation, so it is not stale, whatever its sentence."""
    sources = [*SOURCES[:2], "another one", "and another", SOURCES[4]]
    rows = [f"{number:09d}\t{source}\t{TARGETS[number]}" for number, source in enumerate(sources)]
    table = translator.write_text(folder / "refs.tsv", ["id\tsource\ttarget", *rows])
    assert run("--translations", folder / "out", "--references", table) == 3
    assert last_line(capsys)["stale"].startswith("1 of 5 sentences: the source beside the reference is another")
    assert json.loads((folder / "out" / "evaluation.json").read_text())["stale"] == 1


def test_files_of_lines(folder, capsys):
    said = [line.upper() for line in TARGETS[:4]] + ["ein Mann"]
    with gzip.open(folder / "said.de.gz", "wt") as file:
        file.writelines(f"{line}\n" for line in said)
    arguments = ["--hypotheses", folder / "said.de.gz", "--references", folder / "val.de"]
    assert run(*arguments) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out.splitlines()[-1])
    assert f"{folder / 'val.de'} looks like translations, and is scored as these" in shown.err
    assert found["BLEU"] == bleu(said, lowercase=False) and "case:mixed" in found["BLEU signature"]
    assert run(*arguments, "--lowercase", "--source", folder / "val.en", "--out", folder / "scored") == 0
    assert last_line(capsys)["BLEU"] == bleu(said)
    rows = read_lines(folder / "scored" / "evaluated.jsonl")
    assert [row["source"] for row in rows] == SOURCES and rows[0]["scores"]["chrF"] == 100
    other = translator.write_text(folder / "second.de", [*TARGETS[:4], "ein Mann"])
    assert run(*arguments, "--references", other, "--lowercase") == 0
    both = last_line(capsys)
    assert both["BLEU"] == pytest.approx(100) and "nrefs:2" in both["BLEU signature"]


def test_what_the_references_look_like_can_be_overruled(folder, capsys):
    data = captioner.make_captions(folder / "captions.jsonl")
    translator.write_text(folder / "said", [f"{name[0]}\ta dog" for name in captioner.CAPTIONS])
    arguments = ["--hypotheses", folder / "said", "--tokenizer", "simple", "--references"]
    assert run(*arguments, data) == 0
    assert "looks like captions of images, and is scored as these; --kind text if not." in capsys.readouterr().err
    lines = "".join(f"{name}#0\ta dog\n" for name in captioner.CAPTIONS)
    for name, opener in (("token.txt", open), ("token.txt.GZ", gzip.open)):
        with opener(folder / name, "wt") as file:
            file.write(lines)
        assert run(*arguments, folder / name) == 0
        assert "captions of images, and is scored as these; --kind text if not." in capsys.readouterr().err
    assert run("--hypotheses", folder / "val.de", "--references", folder / "val.de", "--kind", "captions") == 2
    assert "Expected COCO results" in last_line(capsys)["error"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--hypotheses", "less.de", "--references", "val.de"], "less.de has 4 sentences and .*val.de has 5"),
        (["--hypotheses", "val.de", "--references", "nowhere"], "nowhere cannot be read"),
        (["--hypotheses", "val.de", "--references", "pairs.jsonl"], "Name the references' column: --column source"),
        (["--hypotheses", "val.de", "--references", "val.de", "--split", "val"], "--split is of captions"),
        (["--model", "run", "--shuffled", "--store", "x"], "--store and --shuffled is of captions"),
        (["--captions", "out", "--column", "de"], "--column is of translations"),
        (["--model", "run", "--kind", "text"], "--kind is of --hypotheses"),
        (["--model", "run", "--set", "beef"], "--set is of --captions and --translations"),
        (["--captions", "out", "--store", "x"], "--store is of --model"),
        (["--translations", "out", "--source", "val.en"], "--source is of --model and --hypotheses"),
        (["--hypotheses", "val.de", "--precision", "int8"], "--precision is of --model"),
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
def test_mistakes_with_translations(folder, capsys, monkeypatch, arguments, expected):
    monkeypatch.chdir(folder)
    translator.write_text(folder / "less.de", TARGETS[:4])
    translator.write_text(folder / "pairs.jsonl", [json.dumps({"source": line}) for line in SOURCES])
    assert run(*arguments) == 2
    found = last_line(capsys)["error"]
    assert re.search(expected, found), found
