"""Text small enough to train on in a test: sentences of letters, and the same letters from the last to the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np

LETTERS = "abcdefgh"


def sentences(count: int, seed: int = 0, longest: int = 7) -> list[str]:
    chance = np.random.default_rng(seed)
    return [" ".join(chance.choice(list(LETTERS), chance.integers(1, longest + 1))) for _ in range(count)]


def reverse(sentence: str) -> str:
    return " ".join(reversed(sentence.split()))


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def make_text(folder: Path, pairs: int = 60, validation: int = 9) -> list[str]:
    """Files of so many pairs; overrides for a translator's recipe."""
    files = {}
    for name, count, seed in (("", pairs, 0), ("validation_", validation, 1)):
        lines = sentences(count, seed)
        files[f"{name}source"] = write(folder / f"{name}source.txt", lines)
        files[f"{name}target"] = write(folder / f"{name}target.txt", [reverse(line) for line in lines])
    return [f"data.{key}={path}" for key, path in files.items()] + [f"data.store={folder / 'tokens'}"]


TINY = (
    "text.level=word",
    "model.embedding=8",
    "model.hidden=8",
    "model.attention=8",
    "model.readout=8",
    "training.tokens_per_batch=40",
    "training.epochs=3",
    "training.learning_rate=0.01",
    "training.samples=2",
    "training.early_stopping.patience=null",
    "search.max_length=10",
)
