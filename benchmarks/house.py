"""How large is the house, and how many files does one call of a verb enter? For any checkout of the project.

    python benchmarks/house.py                        this checkout: modules, lines, import chain, names
    python benchmarks/house.py ../before              another one
    python benchmarks/house.py ../before --calls      also runs train, caption and translate, and traces the driver

The deepest import chain is the longest way from a module down to one that imports nothing of the project, counted in
modules; imports within functions count. A name that is defined twice is a function or class at the
top of two modules of a package.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

PACKAGES = ("rnncond", "feature_store", "pipelines")


def name_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(root: Path) -> dict[str, tuple[str, ast.Module]]:
    """Text and syntax tree of each module by its name."""
    texts = {
        name_of(path, root): path.read_text() for package in PACKAGES for path in sorted((root / package).rglob("*.py"))
    }
    return {name: (text, ast.parse(text)) for name, text in texts.items()}


def imported(tree: ast.Module, known: set[str]) -> set[str]:
    """The modules of the project that a module imports, with absolute names, as all of ours are."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            deeper = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= deeper & known or {node.module}
    return names & known


def deepest_chain(edges: dict[str, set[str]]) -> list[str]:
    """The longest path of a graph of imports. Where modules import one another, the way back is left out."""

    @cache
    def longest(name: str) -> tuple[str, ...]:
        if name in under_way:
            return ()
        under_way.add(name)
        below = max((longest(other) for other in sorted(edges[name])), key=len, default=())
        under_way.remove(name)
        return (name, *below)

    under_way: set[str] = set()
    return list(max((longest(name) for name in sorted(edges)), key=len))


def measure(root: Path) -> dict:
    modules = sources(root)
    known = set(modules)
    table = {}
    for package in PACKAGES:
        own = {name: code for name, code in modules.items() if name.split(".")[0] == package}
        tops = Counter(
            node.name
            for _, tree in own.values()
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        )
        folders = Counter(name.rpartition(".")[0] for name, (text, _) in own.items() if len(text.splitlines()) > 1)
        table[package] = {
            "modules": len(own),
            "lines": sum(len(text.splitlines()) for text, _ in own.values()),
            "classes": sum(isinstance(node, ast.ClassDef) for _, tree in own.values() for node in ast.walk(tree)),
            "most modules in a folder": max(folders.values()),
            "names defined twice or more": sum(times > 1 for times in tops.values()),
        }
    chain = deepest_chain({name: imported(tree, known) - {name} for name, (_, tree) in modules.items()})
    return {"packages": table, "deepest chain": len(chain), "chain": chain}


TRACE = """
import inspect, json, sys, threading
root, target, script = sys.argv[1:4]
files = set()
def profile(frame, event, arg):
    code = frame.f_code
    if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(root):
        files.add(code.co_filename[len(root) + 1:])
module, function = script.split(":")
main = getattr(__import__(module, fromlist=[function]), function)
sys.argv = ["rnncond", *sys.argv[4:]]
threading.setprofile(profile)
sys.setprofile(profile)
try:
    main()
finally:
    sys.setprofile(None)
    json.dump(sorted(files), open(target, "w"))
"""


def world(folder: Path) -> None:
    """Twenty-four small pictures with captions, and as many pairs of sentences."""
    import numpy as np
    from PIL import Image

    (folder / "photos").mkdir()
    draw = np.random.default_rng(1)
    with (folder / "captions.jsonl").open("w") as lines:
        for number in range(24):
            Image.fromarray(draw.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / f"photos/{number}.jpg")
            split = "val" if number % 4 == 0 else "train"
            caption = f"a {'red' if number % 2 else 'blue'} dog and {number % 3} cats"
            entry = {"image_id": f"{number}.jpg", "file": f"photos/{number}.jpg", "split": split, "captions": [caption]}
            print(json.dumps(entry), file=lines)
    for language, word in (("en", "dog"), ("de", "Hund")):
        (folder / f"text.{language}").write_text("".join(f"{word} {number % 7}\n" for number in range(24)))


def calls(root: Path) -> dict[str, dict]:
    """The files whose functions run in the driver's process, for one small call of each verb."""
    script = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]["rnncond"]
    text = ["data.source=text.en", "data.target=text.de", "data.validation_source=text.en",
            "data.validation_target=text.de"]  # fmt: skip
    worker = ["cluster.cpus_per_worker=0.5", "training.epochs=1"]
    verbs = {
        "features": ["photos", "--store", "store", "--backbone", "timm/test_byobnet", "--weights", "random",
                     "--outputs", "pooled"],
        "train": ["show_tell.small", "data.store=store", "data.captions=captions.jsonl", "text.min_count=1", *worker],
        "caption": ["--store", "store", "--model", "runs/show_tell.small", "--out", "captioned"],
        "train a translator": ["encdec.small", *text, "text.size=60", *worker],
        "translate": ["text.en", "--model", "runs/encdec.small", "--out", "translated"],
    }  # fmt: skip
    entered = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world(folder)
        for verb, words in verbs.items():
            target = folder / "files.json"
            command = [sys.executable, "-c", TRACE, str(root), str(target), script, verb.split()[0], *words]
            environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"rnncond {verb} ended with {done.returncode}:\n{done.stderr[-3000:]}")
            files = json.loads(target.read_text())
            own = [file for file in files if file.startswith("pipelines")]
            entered[verb] = {
                "files": len(files),
                "of pipelines": len(own),
                "rooms": sorted({rooms(file) for file in own}),
            }
    return entered


def rooms(file: str) -> str:
    return file.split("/")[1] if file.count("/") > 1 else "(top)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--calls", action="store_true", help="also trace one call of each verb (minutes)")
    options = parser.parse_args()
    root = options.root.resolve()
    result = measure(root)
    if options.calls:
        result["calls"] = calls(root)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
