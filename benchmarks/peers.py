"""How fast rnncond is beside two translation toolkits of the package index, joeynmt and OpenNMT-py, in the same run.

    python benchmarks/peers.py [--threads 2] [--rounds 9] [--out benchmarks/results] [--anyway]

The toolkits go into a virtual environment of their own (``--venv``, made at the first call; it sees this environment's
torch), where all three work by turns in one process. Every number is the middle of all rounds, every ratio the middle
of the ratios of the same round. A machine with other work on it is refused, before and after, unless ``--anyway``.

The work: translation with one LSTM layer of 256 on each side, additive attention, input feeding, V = 10,000, batches of
64 sentences of 14 words. Training: targets of 14 to 20 words, an Adam update included; words/s are real words. Search:
20 words each, since EOS is blocked. joeynmt's encoder has 256 units in each direction, as ours has; OpenNMT-py wants an
encoder as wide as its decoder and so has 128, less work than ours. Each toolkit's own model, loss and search do it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import psutil
import torch
from record import save, seconds
from torch import Tensor
from torch.nn import functional
from translation_decoder import CONFIG, PAIRS, SIZE, SOURCE, STEPS, VOCAB, trainer

from rnncond import systems
from rnncond.contract import BOS, EOS, PAD, UNK, Source
from rnncond.fast import kernels
from rnncond.fast.lean import lean, supported
from rnncond.search import SearchOptions, search

PEERS = {"joeynmt": "2.3.0", "OpenNMT-py": "3.5.1", "configargparse": "1.7.1"}
SHORTEST = 14
BUSY = 8.0
"""Percent of the processors that other work may take."""
BESIDE_THE_MODELS = [
    "torch.utils.tensorboard", "sentencepiece", "subword_nmt", "subword_nmt.apply_bpe", "seaborn",
    "pyonmttok", "spacy", "spacy.language", "spacy.tokens", "spacy.util", "ctranslate2", "ahocorasick", "rapidfuzz",
    "fasttext", "waitress", "datasets", "sacremoses",
]  # fmt: skip
"""What the toolkits import for text, servers and logs, none of which is used here."""
Work = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--venv", type=Path, default=Path.home() / ".cache" / "rnncond" / "peers")
    parser.add_argument("--anyway", action="store_true", help="also on a busy machine, to try the script")
    parser.add_argument("--out", type=Path, help="folder for the results as JSON")
    arguments = parser.parse_args()
    if Path(sys.prefix).resolve() != arguments.venv.resolve():
        python = environment(arguments.venv)
        sys.exit(subprocess.run([python, *sys.argv], env=os.environ | {"PYTHONPATH": ROOT}).returncode)
    others = busy()
    if others > BUSY and not arguments.anyway:
        sys.exit(f"Other work takes {others:.0f}% of the processors, so that numbers would mean nothing. Wait for it.")
    for name in BESIDE_THE_MODELS:
        sys.modules.setdefault(name, MagicMock())
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    kernels.enable()
    results = {
        "training, target words/s": compare(training(), arguments.rounds),
        "beam 5, sentences/s": compare(decoding(5), arguments.rounds),
        "greedy, sentences/s": compare(decoding(1), arguments.rounds),
    }
    others = max(others, busy())
    if others > BUSY and not arguments.anyway:
        sys.exit(f"Other work took {others:.0f}% of the processors at the end, so nothing is reported. Try again.")
    print(table(results))
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results, peers=PEERS, config=CONFIG, others_percent=others))


ROOT = str(Path(__file__).resolve().parent.parent)


def environment(folder: Path) -> Path:
    """The Python of the toolkits' environment, made if it is not there."""
    python = folder / "bin" / "python"
    wanted = " ".join(f"{name}=={version}" for name, version in PEERS.items())
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        # Without their dependencies, which ask for a torch of their own; what their models need is here already.
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *wanted.split()], check=True)
        site = next(folder.glob("lib/python*/site-packages"))
        (site / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        stamp.write_text(wanted)
    return python


def busy() -> float:
    """Percent of all processors that is taken, in two seconds in which this process does nothing."""
    return psutil.cpu_percent(2.0)


def compare(works: dict[str, tuple[int, Work]], rounds: int) -> dict[str, dict[str, float]]:
    """Of each work its rate per second, and the ratio of the first one's rate to it, with the spread."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 2):
        for name, (_, work) in works.items():
            times[name].append(seconds(work))
            time.sleep(0.01)
    times = {name: spent[2:] for name, spent in times.items()}
    rates = {name: [works[name][0] / spent for spent in times[name]] for name in works}
    first = rates[next(iter(works))]
    found = {}
    for name, own in rates.items():
        ratios = [mine / other for mine, other in zip(first, own, strict=True)]
        found[name] = {"rate": statistics.median(own), "ratio": statistics.median(ratios),
                       "lowest": min(ratios), "highest": max(ratios)}  # fmt: skip
    return found


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = ["| work | | per second | rnncond / it | spread |", "|---|---|---|---|---|"]
    for work, rows in results.items():
        for name, row in rows.items():
            spread = f"{row['lowest']:.2f} to {row['highest']:.2f}"
            lines.append(f"| {work} | {name} | {row['rate']:,.0f} | {row['ratio']:.2f} | {spread} |")
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


def training() -> dict[str, tuple[int, Work]]:
    source, targets, lengths = pairs()
    count = int(lengths.sum())
    update = trainer()
    works: dict[str, tuple[int, Work]] = {"rnncond": (count, lambda: update(Source(source), targets))}
    joey, onmt = Joey(), OpenNmt()
    for name, peer in (("joeynmt", joey), ("OpenNMT-py", onmt)):
        works[name] = count, updating(peer, source, targets)
    return works


def updating(peer: Joey | OpenNmt, source: Tensor, targets: Tensor) -> Work:
    peer.model.train()
    optimizer = torch.optim.Adam(peer.model.parameters(), fused=True)
    words = int((targets[:, 1:] != PAD).sum())

    def update() -> None:
        (peer.loss(source, targets) / words).backward()
        optimizer.step()
        optimizer.zero_grad()

    return update


def decoding(beam: int) -> dict[str, tuple[int, Work]]:
    source, _, _ = pairs()
    model = systems.build("encdec_bidirectional", CONFIG).eval()
    options = SearchOptions(beam=beam, max_length=STEPS - 1, min_length=STEPS - 1)

    def decode(stepper: systems.System) -> Work:
        @torch.no_grad()
        def run() -> None:
            memory = model.encode(Source(source))
            hypotheses = search(stepper.step, memory, model.init_state(memory), options)
            assert (hypotheses.lengths == STEPS).all()

        return run

    works: dict[str, tuple[int, Work]] = {"rnncond": (PAIRS, decode(lean(model, "float32")))}
    joey, onmt = Joey(), OpenNmt()
    joey.model.eval(), onmt.model.eval()
    works["joeynmt"] = PAIRS, lambda: joey.decode(source, beam)
    works["OpenNMT-py"] = PAIRS, lambda: onmt.decode(source, beam)
    for precision in ("bfloat16", "int8"):
        if supported(precision, torch.device("cpu")):
            works[f"rnncond, {precision}"] = PAIRS, decode(lean(model, precision))
    return works


class Joey:
    """joeynmt: ``joeynmt.model`` and ``joeynmt.search``."""

    def __init__(self) -> None:
        from joeynmt.model import build_model
        from joeynmt.vocabulary import Vocabulary

        special = {"pad": PAD, "bos": BOS, "eos": EOS, "unk": UNK}
        settings = {f"{name}_{part}": value for name, id in special.items() for part, value in (("id", id),)}
        settings |= {f"{name}_token": f"<{name}>" for name in special}
        order = SimpleNamespace(**settings, sep_token=None, sep_id=None, lang_tags=[])
        vocabulary = Vocabulary.__new__(Vocabulary)
        vocabulary.specials, vocabulary.lang_tags = [f"<{name}>" for name in special], []
        vocabulary._itos = [*vocabulary.specials, *map(str, range(4, VOCAB))]
        vocabulary._stoi = {word: id for id, word in enumerate(vocabulary._itos)}
        for name, id in special.items():
            setattr(vocabulary, f"{name}_index", id)
        vocabulary.sep_index = order.sep_id
        layer = {"rnn_type": "lstm", "embeddings": {"embedding_dim": SIZE}, "hidden_size": SIZE, "num_layers": 1}
        decoder = layer | {"attention": "bahdanau", "input_feeding": True, "init_hidden": "bridge"}
        config = {"encoder": {"type": "recurrent", "bidirectional": True} | layer,
                  "decoder": {"type": "recurrent"} | decoder}  # fmt: skip
        self.model = build_model(config, vocabulary, vocabulary)
        self.model.loss_function = ("crossentropy", 0.0)

    def inputs(self, source: Tensor) -> dict[str, Tensor]:
        lengths = torch.full((len(source),), source.shape[1])
        return {"src": source, "src_length": lengths, "src_mask": (source != PAD)[:, None]}

    def loss(self, source: Tensor, targets: Tensor) -> Tensor:
        labels = targets[:, 1:]
        more = {"trg_input": targets[:, :-1], "trg": labels, "trg_mask": (labels != PAD)[:, None]}
        return self.model(return_type="loss", **self.inputs(source), **more)[0]

    @torch.no_grad()
    def decode(self, source: Tensor, beam: int) -> None:
        from joeynmt.search import beam_search, greedy

        inputs = self.inputs(source)
        output, hidden, _, _ = self.model(return_type="encode", **inputs)
        common = {"model": self.model, "encoder_output": output, "encoder_hidden": hidden,
                  "src_mask": inputs["src_mask"], "max_output_length": STEPS, "min_output_length": STEPS,
                  "generate_unk": False}  # fmt: skip
        if beam > 1:
            beam_search(beam_size=beam, alpha=-1, n_best=1, **common)
        else:
            greedy(**common)


class OpenNmt:
    """OpenNMT-py: ``onmt.models``, and the search of ``onmt.translate``."""

    def __init__(self) -> None:
        from onmt.decoders.decoder import InputFeedRNNDecoder
        from onmt.encoders.rnn_encoder import RNNEncoder
        from onmt.models import NMTModel
        from onmt.modules import Embeddings

        words = [Embeddings(SIZE, VOCAB, PAD) for _ in range(2)]
        encoder = RNNEncoder("LSTM", True, 1, SIZE, embeddings=words[0])
        self.model = NMTModel(encoder, InputFeedRNNDecoder("LSTM", True, 1, SIZE, attn_type="mlp", embeddings=words[1]))
        self.model.generator = torch.nn.Linear(SIZE, VOCAB)

    def loss(self, source: Tensor, targets: Tensor) -> Tensor:
        lengths = torch.full((len(source),), source.shape[1])
        outputs, _ = self.model(source[..., None], targets[..., None], lengths)
        logits = self.model.generator(outputs.flatten(0, 1))
        return functional.cross_entropy(logits, targets[:, 1:].flatten(), ignore_index=PAD, reduction="sum")

    @torch.no_grad()
    def decode(self, source: Tensor, beam: int) -> None:
        from onmt.translate.beam_search import GNMTGlobalScorer
        from onmt.translate.translator import Translator

        scorer = GNMTGlobalScorer(0.0, 0.0, "none", "none")
        translator = Translator(
            self.model, {"src": Words(), "tgt": Words(), "decoder_start_token": "<s>", "data_task": "seq2seq"},
            beam_size=beam, min_length=STEPS, max_length=STEPS, max_length_ratio=0, global_scorer=scorer,
            random_sampling_topk=1, ban_unk_token=True, report_score=False,
        )  # fmt: skip
        lengths = torch.full((len(source),), source.shape[1])
        translator.translate_batch({"src": source[..., None], "srclen": lengths}, False)


class Words(list):
    """The vocabulary that OpenNMT-py's search asks for its special tokens."""

    def lookup_token(self, token: str) -> int:
        return {"<blank>": PAD, "<s>": BOS, "</s>": EOS}.get(token, UNK)

    def __len__(self) -> int:
        return VOCAB


if __name__ == "__main__":
    main()
