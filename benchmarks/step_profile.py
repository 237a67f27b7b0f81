"""What a step of each system costs and what of it is products, and how that compares with an earlier version.

    python benchmarks/step_profile.py [--before FOLDER] [--threads 1] [--rounds 3] [--out benchmarks/results]

``--before`` is a checkout of another version, whose rnncond is measured by turns with this one's. A training step is an
update with Adam: 10 pictures with five captions of 16 words, or 64 pairs of sentences of 14 and 20 words; a step of the
search is one word of 50 pictures' or 64 sentences' hypotheses, at beam 5 and greedily. All widths are 512 and V = 9,487
for pictures (196 places of 512, 36 regions of 2048), 256 and 10,000 for text, whose systems have their own number of
layers. Milliseconds are the middle of the rounds. The parts are shares of this version's step in a run of torch's
profiler: ``products`` with weights and of attention's weighted means; ``element-wise`` with activations, attention's
compiled scores, softmax and Adam; ``choice`` of words; ``moves``, of rows, copies and embeddings; ``rest``, Python
above all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import save, updates

ROOT = Path(__file__).resolve().parent.parent
WIDTH = {"pictures": 512, "text": 256}
VOCAB = {"pictures": 9487, "text": 10_000}
PICTURES, CAPTIONS, IMAGES, WORDS = 10, 5, 50, 16
PAIRS, SOURCE, TARGET = 64, 14, 20
FEATURES = {"encdec_image": (1024,), "mrnn": (1024,), "show_tell": (1024,), "show_attend_tell": (196, 512),
            "top_down": (36, 2048)}  # fmt: skip
TEXT = ("encdec", "encdec_attention", "encdec_bidirectional", "encdec_residual", "gnmt")
WORKS = ("training", "beam 5", "greedy")
PARTS = {
    "choice": ("topk", "sort", "max", "argmax", "log_softmax", "logsumexp", "gather", "masked_fill", "isin"),
    "moves": ("index", "index_select", "index_put_", "_index_put_impl_", "embedding", "embedding_dense_backward", "cat",
              "copy_", "stack", "select_backward", "slice_backward", "scatter", "repeat", "zero_", "fill_", "clone",
              "where", "flip"),
    "products": ("mm", "addmm", "bmm", "baddbmm", "linear", "_linear_pointwise", "mkldnn_linear", "mkldnn_rnn_layer",
                 "mkldnn_rnn_layer_backward", "mv", "addmv"),
}  # fmt: skip
"""Names of torch's operators; all others that the profiler sees are element-wise."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", default=[*FEATURES, *TEXT])
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        torch.set_num_threads(arguments.threads)
        print(json.dumps({name: measure(name) for name in arguments.systems}))
        return
    versions = {"now": ROOT} | ({"before": arguments.before} if arguments.before else {})
    rounds = [
        {version: child(folder, arguments) for version, folder in versions.items()} for _ in range(arguments.rounds)
    ]
    results = {f"{name}, {work}": summarized(rounds, name, work) for name in arguments.systems for work in WORKS}
    print(table(results))
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results))


def child(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    words = [sys.executable, __file__, "--one", "--threads", str(arguments.threads), "--systems", *arguments.systems]
    environment = os.environ | {"PYTHONPATH": str(folder.resolve())}
    output = subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def summarized(rounds: list[dict[str, Any]], name: str, work: str) -> dict[str, float]:
    times = {version: [one[version][name][work]["ms"] for one in rounds] for version in rounds[0]}
    result = {version: statistics.median(values) for version, values in times.items()}
    if "before" in times:
        ratios = sorted(before / now for before, now in zip(times["before"], times["now"], strict=True))
        result |= {"ratio": statistics.median(ratios), "lowest": ratios[0], "highest": ratios[-1]}
    return result | rounds[-1]["now"][name][work]["parts"]


def table(results: dict[str, dict[str, float]]) -> str:
    shares = ("products", "element-wise", "choice", "moves", "rest")
    lines = [f"| a step of | before, ms | now, ms | before / now | {' | '.join(shares)} |", "|---" * 9 + "|"]
    for name, row in results.items():
        ratio = f"{row['ratio']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f})" if "ratio" in row else ""
        before = f"{row['before']:.1f}" if "before" in row else ""
        parts = " | ".join(f"{row[share]:.0%}" for share in shares)
        lines.append(f"| {name} | {before} | {row['now']:.1f} | {ratio} | {parts} |")
    return "\n".join(lines)


def measure(name: str) -> dict[str, Any]:
    """Of each kind of work the milliseconds of a step, and the shares of its parts."""
    torch.manual_seed(0)
    works = {"training": updating(name), "beam 5": searching(name, 5), "greedy": searching(name, 1)}
    return {work: timed(run, 1 if work == "training" else steps(name)) for work, run in works.items()}


def steps(name: str) -> int:
    return (TARGET if name in TEXT else WORDS) + 1


def timed(run: Callable[[], None], count: int, repeats: int = 5) -> dict[str, Any]:
    for _ in range(2):
        run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        began = time.perf_counter()
        run()
        whole = time.perf_counter() - began
    return {"ms": statistics.median(times) / count * 1e3, "parts": parts(profile.key_averages(), whole)}


def parts(events: Any, whole: float) -> dict[str, float]:
    spent = dict.fromkeys((*PARTS, "element-wise"), 0.0)
    for event in events:
        operator = event.key.rpartition("::")[2]
        kind = next((part for part, names in PARTS.items() if operator in names), "element-wise")
        spent[kind] += event.self_cpu_time_total / 1e6
    shares = {kind: seconds / whole for kind, seconds in spent.items()}
    return shares | {"rest": max(1 - sum(shares.values()), 0.0)}


def model_of(name: str) -> Any:
    from rnncond import systems

    side = "text" if name in TEXT else "pictures"
    sizes: dict[str, Any] = {"vocab_size": VOCAB[side]}
    sizes |= {"source_vocab_size": VOCAB[side]} if side == "text" else {"feature_size": FEATURES[name][-1]}
    fields = systems.find(name).Config.__dataclass_fields__
    sizes |= {
        key: WIDTH[side] for key in ("embedding", "hidden", "attention", "readout", "multimodal") if key in fields
    }
    return systems.build(name, sizes | ({"dropout": 0.0} if "dropout" in fields else {}))


def source_of(name: str, examples: int) -> Any:
    from rnncond.contract import Source

    if name in TEXT:
        return Source(torch.randint(4, VOCAB["text"], (examples, SOURCE)))
    return Source(torch.randn(examples, *FEATURES[name]))


def updating(name: str) -> Callable[[], None]:
    from rnncond.losses import TeacherForcing

    enable_kernels()
    model = TeacherForcing(model_of(name)).train()
    side = "text" if name in TEXT else "pictures"
    rows = PAIRS if name in TEXT else PICTURES * CAPTIONS
    source = source_of(name, PAIRS if name in TEXT else PICTURES)
    tokens = torch.randint(4, VOCAB[side], (rows, steps(name)))
    update = updates(model)
    return lambda: update(source, tokens)


def searching(name: str, beam: int) -> Callable[[], None]:
    from rnncond.search import SearchOptions, search

    model = model_of(name).eval()
    source, length = source_of(name, PAIRS if name in TEXT else IMAGES), steps(name) - 1
    options = SearchOptions(beam=beam, max_length=length, min_length=length)
    stepper = packed(model)

    @torch.no_grad()
    def find() -> None:
        memory = model.encode(source)
        search(stepper.step, memory, model.init_state(memory), options)

    return find


def enable_kernels() -> None:
    """Compiled attention, in versions that have it."""
    try:
        from rnncond.fast import kernels
    except ImportError:
        return
    kernels.enable()


def packed(model: Any) -> Any:
    """The model with its products as the verbs decode with them, in versions that prepare them."""
    try:
        from rnncond.fast.lean import lean
    except ImportError:
        return model
    return lean(model, "float32")


if __name__ == "__main__":
    main()
