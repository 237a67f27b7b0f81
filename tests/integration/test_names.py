"""Every batch verb, with folders, files and ids of the names in ``tests.worlds.names``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines
from feature_store import Store, verify
from pipelines.engine.driver import Options
from pipelines.features import backbones
from pipelines.verbs import caption, features, translate
from tests.worlds import names
from tests.worlds.captioner import model_reading
from tests.worlds.translator import make_translator

BACKBONE = "timm/test_resnet"
ONE = Options(workers=1)


@pytest.fixture
def folder(tmp_path) -> Path:
    """An empty folder of such a name."""
    (tmp_path / names.FOLDER).mkdir()
    return tmp_path / names.FOLDER


def ids_in(store: Path, kind: str) -> list[str]:
    dataset = Store(str(store)).open(kind=kind)
    assert verify(dataset).problems == []
    return sorted(dataset.snapshot().ids().to_pylist())


@pytest.mark.ray
def test_features_and_captions_of_pictures_with_nasty_names(ray_cluster, folder, make_photos):
    photos = make_photos(len(names.PARTS) + 1, f"{names.FOLDER}/photos")
    ids = names.name_files(photos)
    store, out, kept = folder / "store", folder / "out", folder / "kept"
    done = features.run(str(photos), str(store), BACKBONE, "random", options=ONE)
    assert (done.summary["computed"], done.failed) == (len(ids), 0)
    assert ids_in(store, "features") == ids
    again = features.run(str(photos), str(store), BACKBONE, "random", options=ONE)
    assert (again.summary["already_done"], again.summary["computed"]) == (len(ids), 0)
    recipe = backbones.load(BACKBONE, "random").recipe
    model_reading(folder / "model", "show_attend_tell", "grid", recipe)
    said = caption.run(str(folder / "model"), str(out), store=str(store), attention=True, options=ONE)
    assert (said.summary["computed"], said.failed) == (len(ids), 0)
    asked = {"weights": "random", "keep_features": str(kept), "attention": True, "options": ONE}
    assert caption.run(str(folder / "model"), str(folder / "out2"), str(photos), **asked).failed == 0
    assert ids_in(out, "captions") == ids_in(folder / "out2", "captions") == ids_in(kept, "features") == ids


@pytest.mark.ray
def test_a_corpus_with_nasty_names_is_translated(ray_cluster, folder):
    ids = [f"{part}\n" for part in names.PARTS]
    text = folder / "text.jsonl"
    text.write_text("".join(json.dumps({"id": id_, "source": f"a {id_} b"}) + "\n" for id_ in ids))
    make_translator(folder / "model")
    done = translate.run(
        str(text), str(folder / "model"), str(folder / "out"), options=ONE, lines=str(folder / "t.txt")
    )
    assert (done.summary["computed"], done.failed) == (len(ids), 0)
    assert ids_in(folder / "out", "translations") == sorted(ids)


SHADOWS = ("caption", "features", "train", "torch", "feature_store", "pyarrow", "ray")


@pytest.mark.ray
def test_nothing_in_the_current_folder_is_imported(folder, make_photos):
    """A command is given where somebody keeps scripts of their own; Ray would put that folder first on its workers'
    path. Ray starts here, in a process of its own."""
    photos = make_photos(4, f"{names.FOLDER}/photos")
    (folder / "pipelines" / "engine").mkdir(parents=True)
    for name in ("pipelines/__init__", "pipelines/features", "pipelines/engine/__init__", *SHADOWS):
        (folder / f"{name}.py").write_text("raise SystemExit('somebody else was imported')\n")
    source = str(Path(pipelines.__file__).parents[1])
    command = "import sys; sys.path[:0] = [sys.argv.pop(1)]; from pipelines.cli.main import main; main()"
    words = [
        "features",
        str(photos),
        "--store",
        "store",
        "--backbone",
        BACKBONE,
        "--weights",
        "random",
        "--workers",
        "1",
    ]
    done = subprocess.run(
        [sys.executable, "-P", "-c", command, source, *words],
        cwd=folder, capture_output=True, text=True, timeout=600,
        env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(ids_in(folder / "store", "features")) == 4
