"""What a machine with a GPU does: the laws on CUDA, the speed of training, decoding and features, and peak memory.

    OUT=results make gpu-check      # or: OUT=results python benchmarks/gpu_check.py [--device cuda] [--tiny]

One script of at most 8 minutes, for a machine that has torch, torchvision, timm, pyarrow, tokenizers and safetensors;
pytest is a wheel more, and Ray is not needed. What it finds goes to ``gpu_check.json`` in the folder that OUT names,
part by part, so that what was found is kept when a later part fails. Exit code 1 where a law is broken or a part fails.

Speeds are beside bare work on the same device: of training, the matrix products that a step needs, counted by torch, at
the rate of a large product in bfloat16; of features, the network alone on a batch that is there already. With
``--device cpu --tiny`` the script can be tried anywhere; its numbers then mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rnncond import systems
from rnncond.contract import Source, System
from rnncond.fast import kernels
from rnncond.fast.lean import lean
from rnncond.losses import TeacherForcing
from rnncond.search import SearchOptions, search

SIZES = {"show_attend_tell": (196, 512), "top_down": (36, 2048)}
"""Places and depth of the features that attention reads; the other captioners read 2,048 pooled values."""
LAWS_SECONDS = 150
"""After which no further law is begun, lest nothing else be measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that any machine does in seconds")
    arguments = parser.parse_args()
    device, tiny = torch.device(arguments.device), arguments.tiny
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no GPU that torch can use; --device cpu --tiny tries the script without one.")
    folder = Path(os.environ.get("OUT", "."))
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"device": name_of(device), "torch": torch.__version__, "tiny": tiny}
    parts: dict[str, Callable[[], Any]] = {
        "products_tflops": lambda: products(device, tiny),
        "training": lambda: {name: training(name, device, tiny) for name in systems.names()},
        "decoding": lambda: {name: decoding(name, device, tiny) for name in systems.names()},
        "features": lambda: features(device, tiny),
        "laws": lambda: laws(device, tiny),
    }
    failed = False
    for name, part in parts.items():
        began = time.perf_counter()
        try:
            found[name] = part()
        except Exception:
            found[name], failed = {"failed": traceback.format_exc()}, True
        found.setdefault("seconds", {})[name] = round(time.perf_counter() - began, 1)
        (folder / "gpu_check.json").write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name:<16} {found['seconds'][name]:>6} s", flush=True)
    print(folder / "gpu_check.json")
    sys.exit(1 if failed or found["laws"]["broken"] else 0)


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds of one call, once warm."""
    work()
    wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    wait(device)
    return (time.perf_counter() - began) / repeats


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_gb(device: torch.device) -> float | None:
    """Most memory of the device since the last call, in GB."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device) / 1e9
    torch.cuda.reset_peak_memory_stats(device)
    return round(peak, 2)


def products(device: torch.device, tiny: bool) -> dict[str, float]:
    """10^12 operations per second of a large square product."""
    size = 128 if tiny else 8192
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(size, size, device=device, dtype=dtype)
        rates[str(dtype).removeprefix("torch.")] = 2e-12 * size**3 / timed(lambda a=a: a @ a, device, 10)
    return rates


def example(name: str, device: torch.device, tiny: bool) -> tuple[System, Source, int]:
    """A model, a batch for it, and the vocabulary's size."""
    vocabulary, size, rows = (50, 16, 4) if tiny else (10_000, 512, 256)
    config: dict[str, Any] = {"vocab_size": vocabulary, "embedding": size, "hidden": size}
    kind = systems.find(name).Model.takes[0]
    if kind == "tokens":
        config["source_vocab_size"] = vocabulary
        source = Source(torch.randint(4, vocabulary, (rows, 5 if tiny else 20)))
    else:
        places, depth = (4, 8) if tiny else SIZES.get(name, (0, 2048))
        config["feature_size"] = depth
        source = Source(torch.randn(rows, depth) if kind == "pooled" else torch.randn(rows, places, depth))
    torch.manual_seed(0)
    return systems.build(name, config).to(device), source.to(device), vocabulary


def training(name: str, device: torch.device, tiny: bool) -> dict[str, Any]:
    """Target words per second in bfloat16, Adam included, eager and with attention compiled."""
    system, source, vocabulary = example(name, device, tiny)
    model = TeacherForcing(system).train()
    rows, words = len(source.values), 3 if tiny else 20
    tokens = torch.randint(4, vocabulary, (rows, words + 1), device=device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def update() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            sums = model(source, tokens)
        (sums.objective / sums.words).backward()
        optimizer.step()
        optimizer.zero_grad()

    with FlopCounterMode(display=False) as counter:
        update()
    result: dict[str, Any] = {"teraflop_of_a_step": counter.get_total_flops() / 1e12}
    peak_gb(device)
    for kind in ("eager", "compiled"):
        kernels.enable(kind == "compiled" and not tiny)
        spent = timed(update, device, 1 if tiny else 10)
        result[kind] = {"words_per_second": round(rows * words / spent), "seconds_of_a_step": spent}
    kernels.enable(False)
    peak = products(device, tiny)["bfloat16"]
    result["fraction_of_bare_products"] = result["teraflop_of_a_step"] / peak / result["compiled"]["seconds_of_a_step"]
    return result | {"peak_gb": peak_gb(device)}


def decoding(name: str, device: torch.device, tiny: bool) -> dict[str, Any]:
    """Sentences of 20 words per second, beam 5 and greedy, in float32 and bfloat16."""
    system, source, _ = example(name, device, tiny)
    words = 3 if tiny else 20
    system.eval()
    result: dict[str, Any] = {}
    for precision in ("float32", "bfloat16"):
        model = lean(system, precision)
        for beam in (5, 1):
            options = SearchOptions(beam=beam, max_length=words, min_length=words)

            @torch.no_grad()
            def decode(model=model, options=options) -> None:
                memory = model.encode(source)
                search(model.step, memory, model.init_state(memory), options)

            spent = timed(decode, device, 1 if tiny else 5)
            result[f"{precision}, beam {beam}, sentences_per_second"] = round(len(source.values) / spent)
    return result | {"peak_gb": peak_gb(device)}


def features(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Images per second of ResNet-50 as `rnncond features` computes them, and of the network alone."""
    from pipelines.features import backbones

    network = backbones.load("torchvision/resnet18" if tiny else "torchvision/resnet50", "random").to(device)
    count = 2 if tiny else network.batch
    pictures = network.example(count)
    own = timed(lambda: network(pictures), device, 1 if tiny else 20)
    inputs = torch.zeros(count, 3, *network.preprocess.crop, device=device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def bare() -> None:
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            network.trunk(inputs)

    alone = timed(bare, device, 1 if tiny else 20)
    return {"images_per_second": count / own, "bare": count / alone, "ratio": alone / own, "peak_gb": peak_gb(device)}


def laws(device: torch.device, tiny: bool) -> dict[str, Any]:
    """The laws of tests/contract on the device: how many hold, and those that do not."""
    from tests.contract import laws
    from tests.contract.test_laws import CASES

    began, held, broken, left = time.perf_counter(), 0, {}, 0
    for case in CASES[:1] if tiny else CASES:
        for law in laws.of(case):
            if time.perf_counter() - began > LAWS_SECONDS:
                left += 1
                continue
            try:
                law(case, device.type)
                held += 1
            except Exception:
                broken[f"{law.__name__} of {case.id}"] = traceback.format_exc()
    return {"held": held, "broken": broken, "not_tried": left}


if __name__ == "__main__":
    main()
