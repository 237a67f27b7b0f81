"""A small corpus and untrained models that translate it, for the tests of what comes after training."""

from __future__ import annotations

from pathlib import Path

import torch

from rnncond import checkpoint, systems
from rnncond.text import Vocabulary

PAIRS = {
    "a red dog runs": "ein roter Hund rennt",
    "the dog is red": "der Hund ist rot",
    "a blue cat sleeps": "eine blaue Katze schläft",
    "two birds fly": "zwei Vögel fliegen",
    "a man reads a big book": "ein Mann liest ein großes Buch",
}
SEARCH = {"max_length": 8}


def make_translator(
    folder: Path | None,
    system: str = "encdec_bidirectional",
    pairs: dict[str, str] = PAIRS,
    seed: int = 0,
    lowercase: bool = True,
    level: str = "word",
    size: int | None = None,
    **data: str,
) -> checkpoint.Trained:
    """A model of random weights, which differ enough between words for sentences to be told apart."""
    source = Vocabulary.train(pairs, lowercase=lowercase, level=level, size=size)
    target = Vocabulary.train(pairs.values(), lowercase=lowercase, level=level, size=size)
    torch.manual_seed(seed)
    sizes = {"source_vocab_size": len(source), "vocab_size": len(target), "embedding": 16, "hidden": 16}
    if system == "encdec":
        sizes["layers"] = 1
    else:
        sizes |= {"attention": 16}
    model = systems.build(system, sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.6)
    info = {"recipe": {"data": data, "search": SEARCH, "text": {"max_length": 12}}}
    trained = checkpoint.Trained(system, model.eval(), target, source, None, info)
    if folder is not None:
        checkpoint.save(trained, folder)
    return trained


def write_text(path: Path, lines) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
