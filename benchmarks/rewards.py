"""How long rewards take beside the sampling of the sentences that they judge, in the same run.

    python benchmarks/rewards.py [--threads 1] [--rounds 5] [--out benchmarks/results]

50 examples, 5 samples of each, at most 20 words, V = 10,000, float32 on the CPU. ``show_tell`` at its small size (E = H
= 256) samples captions and has 5 references of 12 words for each picture; CIDEr-D knows the n-grams of 25,000 such
references. ``encdec_bidirectional`` (E = H = A = R = 256) samples translations of 14 words, against one reference. The
models are untrained, so samples are long; words of samples and references are drawn by Zipf's law, so n-grams repeat.

The ratio is sampling time / reward time (encoding excluded): above 1 where the reward takes less.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from record import compare, save
from torch import Tensor

from rnncond import systems
from rnncond.contract import Source
from rnncond.rewards import CiderD, bleu, gleu
from rnncond.search import SearchOptions, search
from rnncond.text.special_tokens import EOS, PAD

EXAMPLES, SAMPLES, VOCAB, SIZE, LONGEST = 50, 5, 10_000, 256, 20
CORPUS, PER_PICTURE, WORDS = 25_000, 5, 12
SYSTEMS = {
    "show_tell": {"feature_size": 512, "embedding": SIZE, "hidden": SIZE},
    "encdec_bidirectional": {
        "source_vocab_size": VOCAB, "embedding": SIZE, "hidden": SIZE, "attention": SIZE, "readout": SIZE
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    cider = CiderD(sentences(CORPUS), torch.arange(CORPUS) // PER_PICTURE)
    cases = [("show_tell", "CIDEr-D", cider, PER_PICTURE), ("show_tell", "BLEU", bleu, PER_PICTURE)]
    cases += [("encdec_bidirectional", name, reward, 1) for name, reward in (("GLEU", gleu), ("BLEU", bleu))]
    rows = [measure(*case, arguments.rounds) for case in cases]
    print(f"{'system':<22}{'reward':<9}{'rewards/s':>11}{'samples/s':>11}{'ratio':>8}{'spread':>18}")
    for row in rows:
        spread = f"{row['lowest']:.1f} to {row['highest']:.1f}"
        print(f"{row['system']:<22}{row['reward']:<9}{row['own']:>11.0f}{row['bare']:>11.0f}"
              f"{row['ratio']:>8.1f}{spread:>18}")  # fmt: skip
    if arguments.out:
        shapes = {"examples": EXAMPLES, "samples": SAMPLES, "vocabulary": VOCAB, "longest": LONGEST, "words": WORDS}
        print(save(arguments.out, __doc__, arguments, rows, shapes=shapes, config=SYSTEMS, corpus=CORPUS))


def measure(system: str, name: str, reward: Callable[[Tensor, Tensor], Tensor], references: int, rounds: int) -> dict:
    """Rewards and samples by turns."""
    said = sentences(EXAMPLES * SAMPLES).unflatten(0, (EXAMPLES, SAMPLES))
    meant = sentences(EXAMPLES * references).unflatten(0, (EXAMPLES, references))
    found = compare(said.shape[0] * SAMPLES, lambda: reward(said, meant), sampling(system), rounds)
    return {"system": system, "reward": name, **found}


def sampling(system: str) -> Callable[[], None]:
    model = systems.build(system, {"vocab_size": VOCAB, **SYSTEMS[system]}).eval()
    image = system == "show_tell"
    values = torch.randn(EXAMPLES, 512) if image else torch.randint(4, VOCAB, (EXAMPLES, 14))
    with torch.no_grad():
        memory = model.encode(Source(values))
    options = SearchOptions(samples=SAMPLES, max_length=LONGEST if image else 14)
    return lambda: search(model.step, memory, model.init_state(memory), options)


def sentences(count: int) -> Tensor:
    """(count, WORDS + 4): 9 to 15 words by Zipf's law, EOS, PAD."""
    drawn = torch.multinomial(1 / torch.arange(1.0, VOCAB - 3), count * (WORDS + 4), replacement=True) + 4
    words = drawn.view(count, WORDS + 4)
    places, lengths = torch.arange(WORDS + 4), torch.randint(WORDS - 3, WORDS + 4, (count, 1))
    return words.masked_fill(places == lengths, EOS).masked_fill(places > lengths, PAD)


if __name__ == "__main__":
    main()
