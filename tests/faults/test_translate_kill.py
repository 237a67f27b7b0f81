"""``rnncond translate`` killed with SIGKILL, first the driver and then an actor: every sentence is translated once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_caption_kill import DEADLINE, await_parts, ids_of, kill_a_worker, kill_all

from feature_store import Snapshot, Store, verify
from rnncond import checkpoint, systems
from rnncond.text import Vocabulary

LINES = 240
LONG, EMPTY = 100, 17
WORDS = list("abcdefgh")


@pytest.mark.ray
def test_killed_driver_and_killed_actor(tmp_path):
    corpus, model, out, lines = tmp_path / "test.en", tmp_path / "model", tmp_path / "out", tmp_path / "test.de"
    sentences = [" ".join(random.Random(number).choices(WORDS, k=1 + number % 9)) for number in range(LINES)]
    sentences[EMPTY], sentences[LONG] = "", "a " * 40
    corpus.write_text("".join(f"{sentence}\n" for sentence in sentences))
    make_model(model)

    driver = start(corpus, model, out, lines)
    await_parts(driver, out, random.randint(1, 8))
    kill_all(driver)
    first = committed(out)
    assert 0 < len(ids_of(first)) <= LINES
    assert not lines.exists()

    driver = start(corpus, model, out, lines)
    kill_a_worker(driver)
    printed, _ = driver.communicate(timeout=DEADLINE)
    assert driver.returncode == 3
    summary = json.loads(printed.splitlines()[-1])
    last = committed(out)
    assert ids_of(last) == {f"{number:09d}" for number in range(LINES)}
    assert last.failures()["id"].to_pylist() == [f"{LONG:09d}"]
    # What the killed run had committed still stands in its own files; this run computed the rest and nothing else.
    assert {part.file for part in first.parts} <= {part.file for part in last.parts}
    assert summary["computed"] == last.rows - first.rows
    assert summary["already_done"] == first.rows

    rows = {row["id"]: row for batch in last.scan(["id", "source", "translation"]) for row in batch.to_pylist()}
    said = lines.read_text().split("\n")[:-1]
    assert len(said) == LINES and said[EMPTY] == said[LONG] == ""
    for number, (sentence, line) in enumerate(zip(sentences, said, strict=True)):
        if number != LONG:
            row = rows[f"{number:09d}"]
            assert (row["source"], row["translation"]) == (sentence, line)


def make_model(folder: Path) -> None:
    torch.manual_seed(0)
    vocabulary = Vocabulary.train([" ".join(WORDS)])
    sizes = dict.fromkeys(("source_vocab_size", "vocab_size"), len(vocabulary)) | {"embedding": 8, "hidden": 8}
    model = systems.build("encdec_attention", sizes | {"attention": 8})
    info = {"recipe": {"text": {"max_length": 30}, "search": {"max_length": 10}}}
    checkpoint.save(checkpoint.Trained("encdec_attention", model, vocabulary, vocabulary, None, info), folder)


def start(corpus: Path, model: Path, out: Path, lines: Path) -> subprocess.Popen:
    arguments = ["translate", str(corpus), "--model", str(model), "--out", str(out), "--text", str(lines), "--json"]
    arguments += ["--rows-per-part", "5", "--too-long", "refuse"]
    environment = {**os.environ, "RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )


def committed(out: Path) -> Snapshot:
    dataset = Store(out).open(kind="translations")
    assert verify(dataset).problems == []
    return dataset.snapshot()
