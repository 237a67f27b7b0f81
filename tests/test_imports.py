"""The one-way rules of docs/design.md, read from the import statements, and that importing does nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("rnncond", "feature_store", "pipelines")

# Of the modules under a path: what they may not import. The most particular path comes last.
FORBIDDEN = {
    "rnncond": {"ray", "mlflow", "pyarrow", "feature_store", "pipelines"},
    "feature_store": {"ray", "mlflow", "torch", "torchvision", "rnncond", "pipelines"},
    "pipelines": set(),
}
OUTSIDE = {"tests", "benchmarks", "examples"}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Every module named by an import statement anywhere in a file, and what ``from`` takes of a package."""
    found = set()
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def offences(path: Path, forbidden: set[str]) -> list[str]:
    return sorted(
        f"{path.relative_to(ROOT)} imports {name}"
        for name in imports(path)
        if any(within(name, package) for package in forbidden)
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package):
    paths = modules(package)
    assert len(paths) > 5
    assert [offence for path in paths for offence in offences(path, FORBIDDEN[package] | OUTSIDE)] == []


def test_systems_import_neither_one_another_nor_search():
    paths = [path for path in modules("rnncond/systems") if path.name != "__init__.py"]
    assert len(paths) >= 2
    others = {name_of(path) for path in paths} | {"rnncond.search"}
    assert [offence for path in paths for offence in offences(path, others - {name_of(path)})] == []


def test_search_knows_only_the_contract():
    paths = modules("rnncond/search")
    assert paths
    for path in paths:
        own = {name for name in imports(path) if within(name, "rnncond")}
        strange = [n for n in own if not within(n, "rnncond.contract") and not within(n, "rnncond.search")]
        assert strange == [], f"{path.relative_to(ROOT)} imports {strange}"


def test_the_reader_of_imports_sees_every_form(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "rnncond/systems/one.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import ray.data as rd, os\ndef f():\n    from rnncond.systems import two\n    from . import three\n"
    )
    assert imports(path) >= {"ray.data", "os", "rnncond.systems.two", "rnncond.systems.three"}
    path.write_text("from ..search.loop import x\nfrom .two import Model\n")
    assert imports(path) >= {"rnncond.search.loop", "rnncond.systems.two"}
    assert offences(path, {"rnncond.search"}) == [
        "rnncond/systems/one.py imports rnncond.search.loop",
        "rnncond/systems/one.py imports rnncond.search.loop.x",
    ]


WITHOUT = """
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
for name in {names}:
    importlib.import_module(name)
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess:
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(folder), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-B", "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("package", ["rnncond", "feature_store"])
def test_a_package_imports_without_what_it_may_not_know(package, tmp_path):
    names = [name_of(path) for path in modules(package)]
    done = run(WITHOUT.format(blocked=FORBIDDEN[package] - {"rnncond", "feature_store"}, names=names), tmp_path)
    assert done.returncode == 0, done.stderr


STATE = """
import importlib, os, random, threading
import torch, ray
for name in {libraries}:  # what other people's modules do when they are imported is theirs to answer for
    try:
        importlib.import_module(name)
    except ImportError:
        pass
def state():
    return (torch.get_num_threads(), torch.get_default_dtype(), torch.initial_seed(), random.getstate(),
            ray.is_initialized(), dict(os.environ), os.getcwd(), threading.active_count())
before, written, watching = state(), [], True
def watch(event, args):
    if watching and event == "open" and isinstance(args[0], str) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(args[0])
    if watching and event == "os.mkdir":
        written.append(args[0])
import sys
sys.addaudithook(watch)
for name in {names}:
    importlib.import_module(name)
watching = False
after = state()
assert before == after, [pair for pair in zip(before, after) if pair[0] != pair[1]]
assert not written, written
"""


def test_importing_writes_nothing_and_sets_no_state(tmp_path):
    paths = [path for package in PACKAGES for path in modules(package)]
    libraries = {name.partition(".")[0] for path in paths for name in imports(path)} - set(PACKAGES)
    libraries |= {name for path in paths for name in imports(path) if not any(within(name, own) for own in PACKAGES)}
    done = run(STATE.format(names=[name_of(path) for path in paths], libraries=sorted(libraries)), tmp_path)
    assert done.returncode == 0, done.stderr
