"""Every batch verb, with folders, files and ids of the names in ``tests.worlds.names``."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from feature_store import Store, verify
from pipelines.engine.driver import Options
from pipelines.features import backbones
from pipelines.verbs import caption, evaluate, features, report, train, translate
from pipelines.verbs.store.maintenance import compact
from tests.worlds import names
from tests.worlds.captioner import model_reading
from tests.worlds.training import TINY
from tests.worlds.translator import make_translator

BACKBONE = "timm/test_resnet"
ONE = Options(workers=1)
ALONE = ("cluster.workers=1", "cluster.cpus_per_worker=1", "cluster.threads=1")


@pytest.fixture
def folder(tmp_path) -> Path:
    """An empty folder of such a name."""
    (tmp_path / names.FOLDER).mkdir()
    return tmp_path / names.FOLDER


def ids_in(store: Path, kind: str) -> list[str]:
    dataset = Store(str(store)).open(kind=kind)
    assert verify(dataset).problems == []
    return sorted(dataset.snapshot().ids().to_pylist())


def test_features_and_captions_of_pictures_with_nasty_names(without_ray, folder, make_photos):
    photos = make_photos(len(names.PARTS) + 1, f"{names.FOLDER}/photos")
    ids = names.name_files(photos)
    kept, model = str(folder / "kept"), str(folder / "model")
    model_reading(folder / "model", "show_attend_tell", "grid", backbones.load(BACKBONE, "random").recipe)
    asked = {"attention": True, "options": ONE}
    seen = caption.run(model, str(folder / "seen"), str(photos), weights="random", keep_features=kept, **asked)
    assert (seen.summary["computed"], seen.failed) == (len(ids), 0)
    again = features.run(str(photos), kept, BACKBONE, "random", options=ONE)
    assert (again.summary["already_done"], again.summary["computed"]) == (len(ids), 0)
    read = caption.run(model, str(folder / "read"), store=kept, **asked)
    assert (read.summary["computed"], read.failed) == (len(ids), 0)
    assert ids_in(folder / "seen", "captions") == ids_in(folder / "read", "captions") == ids
    assert ids_in(folder / "kept", "features") == ids


def test_a_training_scores_and_a_report_with_nasty_names(without_ray, no_java, folder, make_photos, monkeypatch, capfd):
    """The folder that the commands are given in, where mlflow.db comes to lie, has such a name, too."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ids = names.name_files(make_photos(len(names.PARTS) + 1, f"{names.FOLDER}/photos"))
    rows = [
        {"image_id": id_, "file": id_, "split": "val" if number % 4 == 0 else "train", "captions": [f"a {id_} b"]}
        for number, id_ in enumerate(ids)
    ]
    Path("captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    features.run("photos", "store", BACKBONE, "random", options=ONE)
    data = ["data.store=store", "data.captions=captions.jsonl"]
    assert train.run("show_tell.small", [*data, *TINY, *ALONE, "training.epochs=1"], out="run").summary["epochs"] == 1
    caption.run("run/best", "out", "photos", weights="random", options=ONE)
    scored = evaluate.run(captions="out", data=["captions.jsonl"], split="val", out="out")
    assert scored.summary["images"] == len([row for row in rows if row["split"] == "val"])
    page = "".join(Path(report.run(of).summary["page"]).read_text(encoding="utf-8") for of in ("out", "run"))
    shown_ids = [row["image_id"] for row in rows if row["split"] == "val" and row["image_id"].isprintable()]
    assert [id_ for id_ in shown_ids if id_ not in html.unescape(page)] == []
    assert compact("store").failed == 0
    assert ids_in(folder / "store", "features") == ids
    shown = "".join(capfd.readouterr())
    assert "\x1b[31mred" not in shown + page and "Traceback" not in shown


def test_a_corpus_with_nasty_names_is_translated(without_ray, folder):
    ids = [f"{part}\n" for part in names.PARTS]
    text = folder / "text.jsonl"
    text.write_text("".join(json.dumps({"id": id_, "source": f"a {id_} b"}) + "\n" for id_ in ids))
    make_translator(folder / "model")
    done = translate.run(
        str(text), str(folder / "model"), str(folder / "out"), options=ONE, lines=str(folder / "t.txt")
    )
    assert (done.summary["computed"], done.failed) == (len(ids), 0)
    assert ids_in(folder / "out", "translations") == sorted(ids)
