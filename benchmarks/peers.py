"""How fast rnncond is beside toolkits of the package index in the same run: joeynmt, OpenNMT-py, and mmf for captions.

    python benchmarks/peers.py [--threads 2] [--rounds 9] [--pairs train.en train.de] [--out benchmarks/results]

The toolkits go into a virtual environment of their own (``--venv``, made at the first call; it sees this environment's
torch), where all of them work by turns in one process. Every number is the middle of all rounds, every ratio the middle
of the ratios of the same round. A machine with other work on it is refused, before and after, unless ``--anyway``.
Each toolkit's own model, loss and search do the work. The process keeps memory that it frees, for all of them, as
rnncond's workers do.

Translation: one LSTM layer of 256 on each side, additive attention, input feeding, V = 10,000, batches of 64 sentences
of 14 words. Training: targets of 14 to 20 words, an Adam update included; words/s are real words. Search: 20 words
each, since EOS is blocked. joeynmt's encoder has 256 units in each direction, as ours has; OpenNMT-py wants an encoder
as wide as its decoder and so has 128, less work than ours. ``--pairs`` adds training on the sentences of two files,
in real words/s: rnncond on its batches by length of 4,000 tokens, joeynmt on 64 pairs as they come, padded to the
longest, as it makes them by default, and on the same batches as rnncond.

Captions: top_down, 36 regions of 2048, all widths 512, V = 9,487, no dropout, beside mmf's BUTD, whose layers have the
same sizes. Training: 10 pictures with five captions of 16 words, an Adam update included. Search: 50 pictures, 16 words
and EOS each. mmf works less than ours in that its attention has a ReLU for the tanh, its features are not standardized,
and its greedy search leaves the choice of the words to the caller, who gets all scores. It works more in that it
multiplies all regions by the attention's weights anew at every step and for every row, keeps the weights of attention
and output layer as direction and length (weight normalization), which it multiplies at every step, and trains on a copy
of the picture for each caption, as its data sets give them. Its beam search takes one picture at a time and refuses
more; its greedy search takes the batch and never ends early.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import psutil
import torch
from record import save, seconds, updates
from step_profile import CAPTIONS, FEATURES, IMAGES, PICTURES, WORDS, model_of
from step_profile import VOCAB as VOCABS
from toolkits import PEERS, Joey, Mmf, OpenNmt, environment, mock_the_rest
from torch import Tensor
from translation_corpus import batches_of
from translation_decoder import CONFIG, PAIRS, SOURCE, STEPS, VOCAB, trainer

from pipelines.allocator import keep_freed_memory
from pipelines.training.data.feature_batches import Batch
from rnncond import systems
from rnncond.contract import Source
from rnncond.fast import kernels
from rnncond.fast.lean import lean, supported
from rnncond.losses import TeacherForcing
from rnncond.search import SearchOptions, search
from rnncond.text.special_tokens import BOS, EOS, PAD

ROOT = str(Path(__file__).resolve().parent.parent)
SHORTEST = 14
BATCHES, BY_LENGTH = 4, "by length, 4000 tokens"
"""Of sentences, in a turn, and how rnncond makes them."""
BUSY = 8.0
"""Percent of the processors that other work may take."""
Work = Callable[[], object]
Works = dict[str, tuple[int, Work]]
"""By name what is done in one call, as a number of words or sentences, and the call; rnncond comes first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pairs", nargs=2, metavar=("SOURCE", "TARGET"), help="of lines, for real words/s")
    parser.add_argument("--venv", type=Path, default=Path.home() / ".cache" / "rnncond" / "peers")
    parser.add_argument("--anyway", action="store_true", help="also on a busy machine, to try the script")
    parser.add_argument("--out", type=Path, help="folder for the results as JSON")
    arguments = parser.parse_args()
    if Path(sys.prefix).resolve() != arguments.venv.resolve():
        python, variables = environment(arguments.venv), os.environ | {"PYTHONPATH": ROOT}
        keep_freed_memory(variables)
        sys.exit(subprocess.run([python, *sys.argv], env=variables).returncode)
    others = busy()
    if others > BUSY and not arguments.anyway:
        sys.exit(f"Other work takes {others:.0f}% of the processors, so that numbers would mean nothing. Wait for it.")
    mock_the_rest()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    kernels.enable()
    results = {
        "translation: training, target words/s": compare(training_translation(), arguments.rounds),
        "translation: beam 5, sentences/s": compare(translation(5), arguments.rounds),
        "translation: greedy, sentences/s": compare(translation(1), arguments.rounds),
        "captions: training, words/s": compare(training_captions(), arguments.rounds),
        "captions: beam 5, captions/s": compare(captions(5), arguments.rounds),
        "captions: greedy, captions/s": compare(captions(1), arguments.rounds),
    }
    if arguments.pairs:
        works = training_on_text(*map(Path, arguments.pairs))
        arguments.pairs = [Path(path).name for path in arguments.pairs]  # for the record
        results["translation: training on sentences, real target words/s"] = compare(works, arguments.rounds)
    others = max(others, busy())
    if others > BUSY and not arguments.anyway:
        sys.exit(f"Other work took {others:.0f}% of the processors at the end, so nothing is reported. Try again.")
    print(table(results))
    if arguments.out:
        sizes = {"translation": CONFIG, "captions": vars(model_of("top_down").config)}
        print(save(arguments.out, __doc__, arguments, results, peers=PEERS, sizes=sizes, others_percent=others))


def busy() -> float:
    """Percent of all processors that is taken, in two seconds in which this process does nothing."""
    return psutil.cpu_percent(2.0)


def compare(works: Works, rounds: int) -> dict[str, dict[str, float]]:
    """The rate per second of each work, and the ratio of the first one's rate to it, with the spread."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 2):
        for name, (_, work) in works.items():
            times[name].append(seconds(work))
            time.sleep(0.01)
    times = {name: spent[2:] for name, spent in times.items()}
    rates = {name: [works[name][0] / spent for spent in times[name]] for name in works}
    first = rates[next(iter(works))]
    rows = {}
    for name, own in rates.items():
        ratios = [mine / other for mine, other in zip(first, own, strict=True)]
        rows[name] = {"rate": statistics.median(own), "ratio": statistics.median(ratios),
                      "lowest": min(ratios), "highest": max(ratios)}  # fmt: skip
    return rows


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = ["| work | | per second | rnncond / it | spread |", "|---|---|---|---|---|"]
    for work, rows in results.items():
        for name, row in rows.items():
            rate = f"{row['rate']:,.0f}" if row["rate"] >= 100 else f"{row['rate']:.1f}"
            spread = f"{row['lowest']:.2f} to {row['highest']:.2f}"
            lines.append(f"| {work} | {name} | {rate} | {row['ratio']:.2f} | {spread} |")
    return "\n".join(lines)


def pairs() -> tuple[Tensor, Tensor, Tensor]:
    """Source words (B, S); BOS, target words, EOS and PAD (B, T + 1); the real words of each target, EOS included."""
    source = torch.randint(4, VOCAB, (PAIRS, SOURCE))
    lengths = torch.randint(SHORTEST, STEPS + 1, (PAIRS,))
    words = torch.randint(4, VOCAB, (PAIRS, STEPS + 1))
    places = torch.arange(STEPS + 1)
    words[:, 0] = BOS
    words = words.where(places < lengths[:, None], EOS).where(places <= lengths[:, None], PAD)
    return source, words, lengths


def training_translation() -> Works:
    source, targets, lengths = pairs()
    update, lean_update = trainer(), trainer(torch.bfloat16)
    works: dict[str, Work] = {"rnncond": lambda: update(Source(source), targets)}
    for name, peer in (("joeynmt", Joey()), ("OpenNMT-py", OpenNmt())):
        works[name] = updating(peer, source, targets)
    if supported("bfloat16", torch.device("cpu")):
        works["rnncond, bfloat16"] = lambda: lean_update(Source(source), targets)
    return {name: (int(lengths.sum()), work) for name, work in works.items()}


def training_on_text(source_file: Path, target_file: Path) -> Works:
    with tempfile.TemporaryDirectory() as folder:
        ways = batches_of(folder, source_file, target_file)
        by_length, as_they_come = (list(islice(ways[way], BATCHES)) for way in (BY_LENGTH, "as they come"))
    joey = Joey()
    learn = learner(joey, *pairs()[:2])

    def ours(update: Callable[[Source, Tensor], None]) -> tuple[int, Work]:
        return words_of(by_length), lambda: [update(batch.source, batch.tokens) for batch in by_length]

    def joey_learns(batches: list[Batch]) -> tuple[int, Work]:
        longest_first = [(-(batch.source.values != PAD).sum(1)).argsort() for batch in batches]  # as it sorts them
        sorted_ = [(b.source.values[o], b.tokens[o]) for b, o in zip(batches, longest_first, strict=True)]
        return words_of(batches), lambda: [learn(*batch) for batch in sorted_]

    works: Works = {
        "rnncond": ours(trainer()),
        "joeynmt": joey_learns(as_they_come),
        "joeynmt, batches by length": joey_learns(by_length),
    }
    if supported("bfloat16", torch.device("cpu")):
        works["rnncond, bfloat16"] = ours(trainer(torch.bfloat16))
    return works


def words_of(batches: list[Batch]) -> int:
    return sum(batch.words for batch in batches)


def training_captions() -> Works:
    values = torch.randn(PICTURES, *FEATURES["top_down"])
    tokens = torch.randint(4, VOCABS["pictures"], (PICTURES * CAPTIONS, WORDS + 1))
    tokens[:, 0] = BOS
    model = TeacherForcing(model_of("top_down")).train()
    update, lean_update = updates(model), updates(model, torch.bfloat16)
    peer = updating(Mmf(), values.repeat_interleave(CAPTIONS, 0), tokens)
    works: dict[str, Work] = {"rnncond": lambda: update(Source(values), tokens), "mmf": peer}
    if supported("bfloat16", torch.device("cpu")):
        works["rnncond, bfloat16"] = lambda: lean_update(Source(values), tokens)
    return {name: (PICTURES * CAPTIONS * WORDS, work) for name, work in works.items()}


def updating(peer: Joey | OpenNmt | Mmf, source: Tensor, targets: Tensor) -> Work:
    learn = learner(peer, source, targets)
    return lambda: learn(source, targets)


def learner(peer: Joey | OpenNmt | Mmf, source: Tensor, targets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """An update of the peer by a batch, after it has been seen to learn ``source`` and ``targets``."""
    peer.model.train()
    optimizer = torch.optim.Adam(peer.model.parameters(), fused=True)

    def update(source: Tensor, targets: Tensor) -> Tensor:
        words = int((targets[:, 1:] != PAD).sum())
        loss = peer.loss(source, targets) / words
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    losses = [float(update(source, targets)) for _ in range(3)]
    assert losses[-1] < losses[0], f"{type(peer).__name__} does not learn: {losses}"
    return update


def translation(beam: int) -> Works:
    source, _, _ = pairs()
    joey, onmt = Joey(), OpenNmt()
    peers = {"joeynmt": lambda: joey.decode(source, beam), "OpenNMT-py": lambda: onmt.decode(source, beam)}
    return decoding(systems.build("encdec_bidirectional", CONFIG), Source(source), STEPS - 1, beam, peers)


def captions(beam: int) -> Works:
    values = torch.randn(IMAGES, *FEATURES["top_down"])
    mmf = Mmf()
    return decoding(model_of("top_down"), Source(values), WORDS, beam, {"mmf": lambda: mmf.decode(values, beam)})


def decoding(model: systems.System, source: Source, words: int, beam: int, peers: dict[str, Work]) -> Works:
    """Ours in float32, the peers', and ours in the lean precisions that this processor has."""
    model.eval()
    options = SearchOptions(beam=beam, max_length=words, min_length=words)

    def decode(precision: str) -> Work:
        stepper = lean(model, precision)

        @torch.no_grad()
        def run() -> None:
            memory = stepper.encode(source)
            hypotheses = search(stepper.step, memory, stepper.init_state(memory), options)
            assert (hypotheses.lengths == words + 1).all()

        return run

    precisions = [name for name in ("bfloat16", "int8") if supported(name, torch.device("cpu"))]
    works = {"rnncond": decode("float32"), **peers, **{f"rnncond, {name}": decode(name) for name in precisions}}
    return {name: (len(source.values), work) for name, work in works.items()}


if __name__ == "__main__":
    main()
