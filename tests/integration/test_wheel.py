"""The wheel, unpacked somewhere else: what is no Python file travels with it, and the command runs from it."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The folder of an unpacked wheel, made of a copy of the sources: a build leaves files beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in ("rnncond", "feature_store", "pipelines"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # The network is not needed: setuptools is here, as torch needs it.
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    shutil.rmtree(source)
    (wheel,) = folder.glob("rnncond-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def run(unpacked: Path, folder: Path, code: str, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-B", "-c", code, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_no_python_file_is_in_it(unpacked):
    def files(root: Path) -> set[str]:
        return {
            str(path.relative_to(root))
            for package in ("rnncond", "feature_store", "pipelines")
            for path in (root / package).rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }

    assert files(unpacked) == files(ROOT)
    kept = [path for path in files(unpacked) if not path.endswith(".py")]
    assert {"feature_store/FORMAT.md", "rnncond/py.typed", "pipelines/recipes/show_tell.small.yaml"} <= set(kept)
    assert sum("/templates/" in path for path in kept) > 5
    assert {path.name for path in unpacked.iterdir() if path.is_dir() and "." not in path.name} == {
        "rnncond", "feature_store", "pipelines",
    }  # fmt: skip


def test_the_command_the_recipes_and_the_page_come_from_it(unpacked, tmp_path):
    (info,) = unpacked.glob("rnncond-*.dist-info")
    scripts = configparser.ConfigParser()
    scripts.read(info / "entry_points.txt")
    module, function = scripts["console_scripts"]["rnncond"].split(":")
    command = f"from {module} import {function}; {function}()"
    assert "evaluate" in run(unpacked, tmp_path, command, "--help")

    where_and_recipe = (
        "import pipelines, rnncond, feature_store\n"
        "print(pipelines.__file__, rnncond.__file__, feature_store.__file__)\n"
        "from pipelines.config.recipe import read_recipe\n"
        "print(read_recipe('show_tell.small', ['data.store=store', 'data.captions=captions.jsonl']).system)"
    )
    said = run(unpacked, tmp_path, where_and_recipe)
    assert said.count(str(unpacked)) == 3 and said.splitlines()[-1] == "show_tell"

    (tmp_path / "hypotheses.txt").write_text("ein Hund\nzwei Katzen\n")
    (tmp_path / "references.txt").write_text("ein Hund\ndrei Katzen\n")
    texts = ["--hypotheses", "hypotheses.txt", "--references", "references.txt"]
    run(unpacked, tmp_path, command, "evaluate", *texts, "--out", "scores")
    run(unpacked, tmp_path, command, "report", "scores")
    assert "drei Katzen" in (tmp_path / "scores" / "report.html").read_text()
