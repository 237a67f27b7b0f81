"""``rnncond caption PICTURE`` without --out: one picture's caption on standard output, without Ray."""

from __future__ import annotations

import json

import pytest
import ray

from pipelines.api import load_captioner
from pipelines.features import backbones
from tests.worlds import captioner as world
from tests.worlds.command import check_mistake, rnncond


@pytest.fixture
def folder(tmp_path, monkeypatch):
    world.make_pictures(tmp_path / "pictures")
    network = backbones.load(world.BACKBONE, "random", ("grid",))
    world.model_reading(tmp_path / "model", "show_attend_tell", "grid", network.recipe)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_caption_of_one_picture_is_printed(folder, capsys):
    of_others = ray.is_initialized()  # by a test before this one
    expected = load_captioner("model").caption("pictures/a.png", nbest=2)
    assert rnncond("caption", "pictures/a.png", "--model", "model") == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (f"{expected.text}\n", "")
    assert rnncond("caption", "pictures/a.png", "--model", "model", "--nbest", 2) == 0
    assert capsys.readouterr().out.splitlines() == [other.text for other in expected.alternatives]
    assert rnncond("caption", "pictures/a.png", "--model", "model", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["caption"], answer["image"]) == (expected.text, "pictures/a.png")
    assert ray.is_initialized() == of_others
    assert sorted(path.name for path in folder.iterdir()) == ["model", "pictures"], "nothing is written"


def test_samples_from_the_command_line(folder, capsys):
    words = ["pictures/a.png", "--model", "model", "--samples", 4, "--temperature", 1.5, "--top-k", 5, "--seed", 7]
    assert rnncond("caption", *words) == 0
    drawn = load_captioner("model").caption("pictures/a.png", samples=4, temperature=1.5, top_k=5, seed=7)
    assert capsys.readouterr().out.splitlines() == [other.text for other in drawn.alternatives]


MISTAKES = [
    (["pictures", "--model", "model"], "--out DIR | pictures"),
    (["--store", "s", "--model", "model"], "--out DIR"),
    (["pictures/gone.png", "--model", "model"], "there is no file or folder pictures/gone.png"),
    (["pictures/*.png", "--model", "model"], "--out DIR | pictures/*.png"),
    (["pictures/broken.png", "--model", "model"], "pictures/broken.png: | picture"),
    (["pictures/a.png", "--model", "model", "--keep-features", "s"], "--keep-features: | --out"),
    (["pictures/a.png", "--model", "model", "--redo-changed"], "--redo-changed: without --out one picture"),
    (["pictures/a.png", "--model", "model", "--samples", "2", "--beam", "3"], "beam 3"),
    (["pictures/a.png", "--model", "model", "--temperature", "2"], "temperature | set samples"),
    (["pictures/a.png", "--model", "model", "--samples", "2", "--top-p", "1.5"], "top_p 1.5"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_told_in_one_message(words, message, folder, capsys):
    (folder / "pictures" / "broken.png").write_bytes(b"none")
    check_mistake(["caption", *words], message, capsys)
