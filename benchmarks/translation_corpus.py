"""Real words a second that a translator learns from a corpus, with batches by length and without.

    python benchmarks/translation_corpus.py SOURCE TARGET [--threads 2] [--steps 30] [--out benchmarks/results]

The model is that of ``translation_decoder.py``: one LSTM layer, 256 each way, additive scores with input feeding, and
one BPE vocabulary of 10,000 for both languages. ``by length`` are the batches of training (``TokenBatches``); ``as they
come`` are 64 pairs at random, padded to the longest, as a loader without buckets makes them; ``no padding`` is 64 times
the same 14 and 20 words. They take turns of ``--steps`` updates, batches made beforehand. A word counts where it is
real, EOS included. ``padded`` is the share of places, source and target, that hold padding.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import torch
from record import save, seconds
from translation_decoder import CONFIG, PAIRS, SOURCE, STEPS, VOCAB, gigaflops, trainer

from feature_store import Store
from pipelines.config.sections import PairText
from pipelines.inputs.corpus import Corpus
from pipelines.training.data.feature_batches import Batch
from pipelines.training.data.token_batches import TokenBatches, pairs_of
from pipelines.training.data.tokens import SCHEMA, rows_of, vocabularies
from rnncond.contract import Source
from rnncond.text.special_tokens import PAD

LONGEST = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30, help="updates a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        ways = batches_of(folder, arguments.source, arguments.target)
        ways = {name: list(islice(batches, arguments.steps)) for name, batches in ways.items()}
    results = measure(ways, arguments.rounds)
    for name, row in results.items():
        print(name, json.dumps(row))
    if arguments.out:
        speed = round(gigaflops(), 1)
        print(save(arguments.out, __doc__, arguments, results, config=CONFIG, gigaflops_of_2048_cubed=speed))


def batches_of(folder: str, source_file: Path, target_file: Path) -> dict[str, Iterator[Batch]]:
    """Batches without end, by the way in which they are made; the text's tokens go to ``folder``."""
    store, corpus = Store(folder), Corpus(str(source_file), str(target_file))
    source, target = vocabularies(store, corpus, PairText(level="bpe", size=VOCAB, joint=True, lowercase=True))
    dataset = store.dataset("tokens", {"corpus": corpus.digest}, SCHEMA, id_column="id")
    with dataset.begin() as term:
        for number, chunk in enumerate(corpus.chunks()):
            term.handle.commit(str(number), rows_of(chunk, source, target))
    snapshot = dataset.snapshot()
    pairs = pairs_of(snapshot, LONGEST)

    def by_length(tokens: int):
        batches = TokenBatches(snapshot, pairs, tokens, seed=1)
        return chain.from_iterable(batches.make(epoch) for epoch in count(1))

    def as_they_come():
        batches, chance = TokenBatches(snapshot, pairs, 1), np.random.default_rng(1)
        while True:
            yield batches.batch(chance.choice(len(pairs.row), PAIRS, replace=False), batches.tokens(0))

    def no_padding():
        words = torch.randint(4, VOCAB, (PAIRS, SOURCE + STEPS + 1))
        while True:
            yield Batch(np.arange(PAIRS), Source(words[:, :SOURCE]), words[:, SOURCE:], PAIRS * STEPS)

    ways = {f"by length, {tokens} tokens": by_length(tokens) for tokens in (1_000, 4_000)}
    return ways | {"as they come": as_they_come(), "no padding": no_padding()}


def measure(ways: dict[str, list[Batch]], rounds: int) -> dict[str, dict[str, float]]:
    learn: Callable[[Source, torch.Tensor], None] = trainer()

    def turn(batches: list[Batch]) -> float:
        return sum(batch.words for batch in batches) / seconds(
            lambda: [learn(batch.source, batch.tokens) for batch in batches]
        )

    turns = [{name: turn(batches) for name, batches in ways.items()} for _ in range(rounds + 1)][1:]
    return {
        name: {
            "words_per_s": statistics.median(rates[name] for rates in turns),
            "to as they come": statistics.median(rates[name] / rates["as they come"] for rates in turns),
            "lowest": min(rates[name] / rates["as they come"] for rates in turns),
            "highest": max(rates[name] / rates["as they come"] for rates in turns),
            "padded": padded(batches),
        }
        for name, batches in ways.items()
    }


def padded(batches: list[Batch]) -> float:
    places = sum(batch.source.values.numel() + batch.tokens.numel() - len(batch.tokens) for batch in batches)
    real = sum(int((batch.source.values != PAD).sum()) + batch.words for batch in batches)
    return 1 - real / places


if __name__ == "__main__":
    main()
