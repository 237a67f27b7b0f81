"""The house's rules (docs/design.md), read from the import statements; and that importing does nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("rnncond", "feature_store", "pipelines")

# What the modules under a path must not import.
FORBIDDEN = {
    "rnncond": {"ray", "mlflow", "pyarrow", "feature_store", "pipelines"},
    "feature_store": {"ray", "mlflow", "torch", "torchvision", "rnncond", "pipelines"},
    "pipelines": set(),
}
OUTSIDE = {"tests", "benchmarks", "examples"}

# The rooms of pipelines/, from the top floor down. A room uses itself and those below it. training/data and
# training/run are rooms of their own: the loop uses them, and they know nothing of the loop.
FLOORS = (
    "cli",
    "verbs",
    "demo",
    "api",
    "reporting",
    "workflow",
    "tuning",
    "training",
    "training.data",
    "training.run",
    "tracking",
    "evaluation",
    "inference",
    "features",
    "engine",
    "cluster",
    "inputs",
    "config",
    "files",
    "console",
    "events",
    "silence",
    "errors",
    "threads",
    "allocator",
    "logs",
)
# A room is read in one sitting; verbs and the building blocks of models are entered one at a time.
MOST_MODULES = {"pipelines.cli": 20, "rnncond": 15, "feature_store": 15}
MOST_ELSEWHERE = 14

# Modules without a test file of their name: to be emptied, and never added to.
WITHOUT_TESTS: set[str] = {
    "pipelines.engine.summary",
    "pipelines.engine.work",
}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """The module that a ``from ... import`` takes from, by its full name."""
    if not node.level:
        return node.module or ""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


@cache
def statements(text: str) -> list[ast.AST]:
    """The nodes of the rules below."""
    return [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom | ast.Attribute)]


def imports(path: Path) -> set[str]:
    """Every module named by an import statement anywhere in a file, and what ``from`` takes of a package."""
    names = set()
    for node in statements(path.read_text()):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, path)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def offences(path: Path, forbidden: set[str]) -> list[str]:
    return sorted(
        f"{path.relative_to(ROOT)} imports {name}"
        for name in imports(path)
        if any(within(name, package) for package in forbidden)
    )


@cache
def room_of(name: str) -> str:
    """``pipelines.training.data`` of ``pipelines.training.data.task.Task``: the room's full name; of another package's
    module, the package and its folder."""
    rooms = [f"pipelines.{floor}" for floor in FLOORS]
    rooms += ["rnncond.systems", "rnncond.search", "rnncond.fast", "rnncond.text", *PACKAGES]
    return max((room for room in rooms if within(name, room)), key=len, default="")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package):
    paths = modules(package)
    assert len(paths) > 5
    assert [offence for path in paths for offence in offences(path, FORBIDDEN[package] | OUTSIDE)] == []


def climbs(path: Path) -> list[str]:
    """The imports of a module of pipelines/ from rooms above its own."""
    own = room_of(name_of(path))
    if own == "pipelines":  # pipelines/__init__.py, below all
        above = {f"pipelines.{floor}" for floor in FLOORS}
    else:
        above = {f"pipelines.{floor}" for floor in FLOORS[: FLOORS.index(own.removeprefix("pipelines."))]}
    return sorted(
        f"{path.relative_to(ROOT)} imports {name}" for name in imports(path) if room_of(name) in above - {own}
    )


def test_a_room_uses_only_those_below_it():
    paths = modules("pipelines")
    assert {room_of(name_of(path)).removeprefix("pipelines.") for path in paths} == {*FLOORS, "pipelines"}
    assert [line for path in paths for line in climbs(path)] == []


def private_names(path: Path) -> list[str]:
    """The underscore names of other rooms that a module uses: imported, or as an attribute of an imported module."""
    nodes, own, bound, used = statements(path.read_text()), room_of(name_of(path)), {}, set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            base = absolute(node, path)
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{base}.{alias.name}"
                if private(alias.name):
                    used.add(f"{base}.{alias.name}")
        elif isinstance(node, ast.Import):
            bound |= {alias.asname: alias.name for alias in node.names if alias.asname}
    for node in nodes:
        if isinstance(node, ast.Attribute) and private(node.attr):
            owner = ast.unparse(node.value)
            used.add(f"{bound.get(owner, owner)}.{node.attr}")
    return sorted(f"{path.relative_to(ROOT)} uses {name}" for name in used if room_of(name) not in ("", own))


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def test_no_room_reaches_for_anothers_underscore_names():
    assert [line for package in PACKAGES for path in modules(package) for line in private_names(path)] == []


def test_a_room_has_few_modules():
    folders = {path.parent for package in PACKAGES for path in modules(package)}
    sizes = {name_of(folder / "__init__.py"): len(list(folder.glob("[!_]*.py"))) for folder in folders}
    assert sum(sizes.values()) > 100
    too_large = {room: size for room, size in sizes.items() if size > MOST_MODULES.get(room, MOST_ELSEWHERE)}
    assert too_large == {}


def test_every_module_has_a_test_file_of_its_name():
    """In tests/unit, in the same folder as the module; a verb, whose tests need Ray, in tests/integration."""
    missing = set()
    for package in PACKAGES:
        for path in modules(package):
            if path.name == "__init__.py":
                continue
            relative = path.relative_to(ROOT)
            places = [ROOT / "tests/unit" / relative.parent / f"test_{path.name}"]
            if relative.parent.name == "verbs":
                places.append(ROOT / "tests/integration" / f"test_{path.name}")
            if not any(place.exists() for place in places):
                missing.add(name_of(path))
    assert sorted(missing - WITHOUT_TESTS) == []


def test_every_unit_test_file_is_named_after_a_module():
    """``test_decode.py``, or ``test_decode_colours.py`` where one file would be too long for what is to be tested."""
    strangers = []
    for path in sorted((ROOT / "tests/unit").rglob("test_*.py")):
        relative = path.relative_to(ROOT / "tests/unit")
        tested = [module.stem for module in (ROOT / relative.parent).glob("[!_]*.py")]
        if not any(path.stem == f"test_{name}" or path.stem.startswith(f"test_{name}_") for name in tested):
            strangers.append(str(relative))
    assert sorted(set(strangers)) == []


def test_systems_import_neither_one_another_nor_search():
    paths = [path for path in modules("rnncond/systems") if path.name != "__init__.py"]
    assert len(paths) >= 10
    others = {name_of(path) for path in paths} | {"rnncond.search"}
    assert [offence for path in paths for offence in offences(path, others - {name_of(path)})] == []


def test_search_knows_of_a_model_only_the_contract_and_the_special_tokens():
    paths = modules("rnncond/search")
    # Kernels are functions of tensors alone, and know no model either.
    known = ("rnncond.contract", "rnncond.text.special_tokens", "rnncond.search", "rnncond.fast.kernels")
    assert paths
    for path in paths:
        own = {name for name in imports(path) if within(name, "rnncond")}
        strange = [name for name in own if not any(within(name, one) for one in known)]
        assert strange == [], f"{path.relative_to(ROOT)} imports {strange}"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that makes a module of a small house, in place of ours."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)

    def write(path: str, text: str) -> Path:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    return write


def test_the_reader_of_imports_sees_every_form(write):
    path = write(
        "rnncond/systems/one.py",
        "import ray.data as rd, os\ndef f():\n    from rnncond.systems import two\n    from . import three\n",
    )
    assert imports(path) >= {"ray.data", "os", "rnncond.systems.two", "rnncond.systems.three"}
    write("rnncond/systems/one.py", "from ..search.loop import x\nfrom .two import Model\n")
    assert imports(path) >= {"rnncond.search.loop", "rnncond.systems.two"}
    assert offences(path, {"rnncond.search"}) == [
        "rnncond/systems/one.py imports rnncond.search.loop",
        "rnncond/systems/one.py imports rnncond.search.loop.x",
    ]


def test_a_climb_is_seen(write):
    path = write("pipelines/training/data/task.py", "from pipelines.files import jsonl\nimport pipelines.console\n")
    assert climbs(path) == []
    write("pipelines/training/data/task.py", "def f():\n    from .. import learner\n    import pipelines.cli.main\n")
    assert climbs(path) == [
        "pipelines/training/data/task.py imports pipelines.cli.main",
        "pipelines/training/data/task.py imports pipelines.training",
        "pipelines/training/data/task.py imports pipelines.training.learner",
    ]
    assert climbs(write("pipelines/errors.py", "from pipelines import console\n")) == [
        "pipelines/errors.py imports pipelines.console"
    ]


def test_a_private_name_of_another_room_is_seen(write):
    path = write(
        "pipelines/verbs/train.py",
        "from pipelines.files import jsonl\nfrom pipelines.config.recipe import _read\n"
        "import pipelines.cluster.jobs as j\nimport rnncond.text\nfrom pipelines.verbs import options\n"
        "jsonl._append()\nj._start()\nrnncond.text._spell\noptions._own\nself._mine\njsonl.__name__\n",
    )
    assert [line.rpartition(" ")[2] for line in private_names(path)] == [
        "pipelines.cluster.jobs._start",
        "pipelines.config.recipe._read",
        "pipelines.files.jsonl._append",
        "rnncond.text._spell",
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


@pytest.mark.heavy
@pytest.mark.parametrize("package", ["rnncond", "feature_store"])
def test_a_package_imports_without_what_it_may_not_know(package, tmp_path):
    names = [name_of(path) for path in modules(package)]
    done = run(WITHOUT.format(blocked=FORBIDDEN[package] - {"rnncond", "feature_store"}, names=names), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.heavy
def test_an_error_loads_no_command_line_and_a_worker_no_torch_that_it_does_not_need(tmp_path):
    blocked = {"typer", "click", "rich", "torch", "ray", "mlflow", "pyarrow"}
    code = WITHOUT.format(blocked=blocked, names=["pipelines.errors"])
    # Each of the processes that a batch verb or a training starts would take seconds more.
    names = ["pipelines.engine.driver", "pipelines.training.run.writer"]
    # And these verbs answer at once.
    names += ["pipelines.verbs.run", "pipelines.verbs.status", "pipelines.verbs.submit"]
    names += ["pipelines.verbs.store.maintenance", "pipelines.verbs.store.current", "pipelines.cli.main"]
    code += WITHOUT.format(blocked={"torch", "mlflow"}, names=names).replace(
        "sys.meta_path.insert(0, Blocked())", "sys.meta_path[0] = Blocked()"
    )
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


STATE = """
import importlib, os, random, threading
import torch, ray
for name in {libraries}:  # other people's modules are not ours to judge
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


@pytest.mark.heavy
def test_importing_writes_nothing_and_sets_no_state(tmp_path):
    paths = [path for package in PACKAGES for path in modules(package)]
    libraries = {name.partition(".")[0] for path in paths for name in imports(path)} - set(PACKAGES)
    libraries |= {name for path in paths for name in imports(path) if not any(within(name, own) for own in PACKAGES)}
    done = run(STATE.format(names=[name_of(path) for path in paths], libraries=sorted(libraries)), tmp_path)
    assert done.returncode == 0, done.stderr
