"""``rnncond translate`` and SIGKILL, first of the driver and then of an actor: every sentence is translated once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from rnncond import checkpoint, systems
from rnncond.text import Vocabulary
from tests.worlds.writing import Writing

LINES = 240
LONG, EMPTY = 100, 17
WORDS = list("abcdefgh")


@pytest.mark.slow  # `caption` is killed alike every day, by the same engine
@pytest.mark.ray
def test_killed_driver_and_killed_actor(nodes, command, chance, tmp_path):
    corpus, model, out, lines = tmp_path / "test.en", tmp_path / "model", tmp_path / "out", tmp_path / "test.de"
    sentences = [" ".join(random.Random(number).choices(WORDS, k=1 + number % 9)) for number in range(LINES)]
    sentences[EMPTY], sentences[LONG] = "", "a " * 40
    corpus.write_text("".join(f"{sentence}\n" for sentence in sentences))
    make_model(model)
    words = ["translate", str(corpus), "--model", str(model), "--out", str(out), "--text", str(lines)]
    words += ["--rows-per-part", "5", "--too-long", "refuse"]

    writing = Writing(nodes, command, words, out)
    writing.await_parts(chance.randint(1, 8))
    writing.kill("driver")
    assert not lines.exists()
    nodes.settle()

    writing = Writing(nodes, command, words, out)
    writing.kill("actor")
    last = writing.finish({f"{number:09d}" for number in range(LINES)}, {f"{LONG:09d}"})

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
