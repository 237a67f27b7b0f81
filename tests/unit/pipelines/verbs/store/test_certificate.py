"""``rnncond store certify`` as its user sees it: complete or not and why, and verified later."""

from __future__ import annotations

import json
import shutil
from functools import partial

import pyarrow as pa
import pytest

from feature_store import Store, compact, verify
from pipelines.inputs.corpus import Corpus, corpus_in_words, with_version
from pipelines.inputs.listing import Listing
from pipelines.verbs import translate
from tests.worlds.translator import write_text

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string()),
        pa.field("caption", pa.string(), nullable=False),
    ]
)


@pytest.fixture
def certify(rnncond):
    return partial(rnncond, "store", "certify")


def caption(root, photos, model: str = "m"):
    """The rows that a captioner would commit, of the photographs as they are."""
    made = Store(root).dataset("captions", {"model": model}, SCHEMA)
    with made.begin() as term:
        for chunk in Listing(str(photos)).chunks():
            chunk = chunk.select(["image_id", "uri", "version"]).append_column("caption", chunk["uri"])
            for start in range(0, chunk.num_rows, 4):
                term.handle.commit(f"part-{start}", pa.table(chunk.slice(start, 4).columns, schema=SCHEMA))
    return made


@pytest.fixture
def photos(make_photos):
    return make_photos(10)


@pytest.fixture
def made(tmp_path, photos):
    return caption(tmp_path / "s", photos)


def test_a_complete_set_has_a_certificate_that_holds(made, photos, tmp_path, certify):
    code, found, _ = certify(tmp_path / "s", "--of", photos, "--bytes")
    assert code == 0 and found["complete"] and (found["listed"], found["rows"]) == (10, 10)
    file = tmp_path / "s/certificates" / f"{made.fingerprint}.json"
    content = json.loads(file.read_text())
    assert (content["model"], content["recipe"], content["files"]["read"]) == ("m", {"model": "m"}, True)
    assert content["digest"]["listing"] == content["digest"]["rows_and_failures"]
    compact(made)
    code, found, _ = certify(tmp_path / "s", "--check", file, "--bytes")
    assert code == 0 and found["holds"] and found["complete"]


def test_what_is_missing_stale_and_extra_is_said(made, photos, tmp_path, certify):
    shutil.copy(photos / "00000.jpg", photos / "new.jpg")
    (photos / "00001.jpg").write_bytes((photos / "00002.jpg").read_bytes())
    (photos / "00003.jpg").unlink()
    code, found, shown = certify(tmp_path / "s", "--of", photos, "--to", tmp_path / "c.json")
    assert code == 3 and not found["complete"] and found["failed"] == 3
    assert (found["missing"], found["stale"], found["extra"]) == (1, 1, 1)
    for line in ("new.jpg: missing", "00001.jpg: stale", "00003.jpg: extra", "--redo-changed", "--prune"):
        assert line in shown
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["missing"] == {"count": 1, "examples": ["new.jpg"]} and not content["complete"]


def test_pruning_is_asked_first_and_takes_out_what_left_the_source(made, photos, tmp_path, certify):
    for name in ("00003.jpg", "00007.jpg"):
        (photos / name).unlink()
    code, found, shown = certify(tmp_path / "s", "--of", photos, "--prune", "--dry-run")
    assert code == 3 and found["would_be_dropped"] == 2 and "00007.jpg" in shown and made.snapshot().rows == 10
    assert "certificate" not in found and not list((tmp_path / "s").rglob("certificates/*"))
    code, found, _ = certify(tmp_path / "s", "--of", photos, "--prune")
    assert code == 0 and found["complete"] and found["dropped"] == 2
    assert made.snapshot().rows == 8 and verify(made).problems == []


def test_pruning_names_other_sets_that_still_have_what_was_dropped(made, photos, tmp_path, certify):
    """Who goes back to such a set would get captions of pictures that are gone."""
    older = caption(tmp_path / "s", photos, "older")
    (photos / "00003.jpg").unlink()
    again = f"--of {photos} --set {older.fingerprint} --prune\n  drops 1 of them"
    code, _, shown = certify(tmp_path / "s", "--of", photos, "--set", made.fingerprint, "--prune")
    assert code == 0 and again in shown
    assert certify(tmp_path / "s", "--of", photos, "--set", older.fingerprint, "--prune")[1]["dropped"] == 1


def test_a_wrong_source_empties_no_store(made, make_photos, tmp_path, certify):
    others = make_photos(2, "others")
    for photo in others.iterdir():
        photo.rename(others / f"other-{photo.name}")
    code, found, shown = certify(tmp_path / "s", "--of", others)
    assert code == 3 and "the same pictures by other ids?" in shown and "--prune" not in shown
    code, found, _ = certify(tmp_path / "s", "--of", others, "--prune")
    assert code == 2 and "would drop 10 of the 10" in found["error"] and made.snapshot().rows == 10
    code, found, _ = certify(tmp_path / "s", "--of", others, "--prune", "--anyway")
    assert found["dropped"] == 10 and made.snapshot().rows == 0


def translations(root, text):
    """The rows that a translator would commit of a corpus."""
    corpus = Corpus(str(text))
    recipe, schema = {"model": "m", "corpus": corpus_in_words(corpus)}, translate.schema_of(False)
    row = {"translation": "x", "score": -1.0, "log_prob": -1.0, "nbest": [], "model": "m", "cut": False}
    rows = [given | row for given in with_version(next(corpus.chunks())).to_pylist()]
    made = Store(root).dataset("translations", recipe, schema, id_column="id")
    with made.begin() as term:
        term.handle.commit("part", pa.Table.from_pylist(rows, schema=schema))
    return made


def test_translations_of_removed_sentences_are_dropped(tmp_path, certify):
    text = write_text(tmp_path / "news.tsv", ["id\tsource", *(f"{n}\tsentence {n}" for n in range(5))])
    made = translations(tmp_path / "s", text)
    assert certify(tmp_path / "s", "--of", text)[1]["complete"]
    write_text(text, ["id\tsource", "0\tsentence 0", "1\tanother", "4\tsentence 4", "new\tit is new"])
    code, found, shown = certify(tmp_path / "s", "--of", text, "--prune", "--dry-run")
    assert code == 3 and (found["missing"], found["stale"], found["would_be_dropped"]) == (1, 1, 2)
    assert made.snapshot().rows == 5 and "would be dropped: 2\n" in shown and "2 sentences that" in shown
    code, found, shown = certify(tmp_path / "s", "--of", text, "--prune")
    assert code == 3 and found["dropped"] == 2 and f"rnncond translate {text}" in shown
    assert made.snapshot().ids().to_pylist() == ["0", "1", "4"] and verify(made).problems == []
    header = write_text(tmp_path / "columns.csv", ["id,en", "0,sentence 0", "1,sentence 1", "4,sentence 4"])
    assert certify(tmp_path / "s", "--of", header)[0] == 2
    assert certify(tmp_path / "s", "--of", header, "--column", "en")[:2][0] == 0


def test_sentences_that_are_known_by_their_lines_are_not_compared_with_another_file(tmp_path, certify):
    """Without ids a line that is removed moves all others to other ids."""
    text = write_text(tmp_path / "news.en", ["one", "two", "three"])
    made = translations(tmp_path / "s", text)
    assert certify(tmp_path / "s", "--of", text)[1]["complete"]
    write_text(text, ["two", "three"])
    code, found, _ = certify(tmp_path / "s", "--of", text, "--prune")
    assert code == 2 and "with a column `id`" in found["error"] and made.snapshot().rows == 3


def test_a_certificate_does_not_hold_for_what_was_added_or_damaged(made, photos, tmp_path, certify, make_photos):
    file = tmp_path / "c.json"
    certify(tmp_path / "s", "--of", photos, "--to", file)
    part = tmp_path / "s" / made.folder / made.snapshot().parts[0].path
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + b"?")
    code, found, shown = certify(tmp_path / "s", "--check", file, "--bytes")
    assert code == 3 and not found["holds"] and part.name in shown
    part.write_bytes(whole)
    with made.begin() as term:
        rows = {"image_id": ["z"], "uri": ["z"], "version": ["1"], "caption": ["z"]}
        term.handle.commit("z", pa.table(rows, schema=SCHEMA))
        code, found, _ = certify(tmp_path / "s", "--of", photos)
        assert code == 2 and "another writer is at work" in found["error"]
    code, found, shown = certify(tmp_path / "s", "--check", file)
    assert code == 3 and not found["holds"] and "+1 rows" in shown


def test_bad_certificates(made, photos, tmp_path, certify):
    file, copy = tmp_path / "c.json", tmp_path / "copy.json"
    certify(tmp_path / "s", "--of", photos, "--to", file)
    text = file.read_text()
    for content, message in (
        (text[: len(text) // 2], "no whole certificate"),
        ("[]", "no whole certificate"),
        (text.replace('"rows": 10', '"rows": 12'), "was changed since it was written"),
    ):
        copy.write_text(content)
        code, found, _ = certify(tmp_path / "s", "--check", copy)
        assert code == 2 and message in found["error"]
    caption(tmp_path / "other", photos, "another")
    code, found, _ = certify(tmp_path / "other", "--check", file)
    assert code == 2 and made.fingerprint in found["error"]
    assert certify(tmp_path / "s", "--check", tmp_path / "nowhere.json")[0] == 2
    assert certify(tmp_path / "s", "--check", file, "--prune")[0] == certify(tmp_path / "s")[0] == 2
    assert certify(tmp_path / "s", "--of", photos, "--set", "beef")[0] == 2
