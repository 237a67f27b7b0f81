import json

import pytest
import torch

from rnncond import systems
from rnncond.checkpoint import DESCRIPTION, WEIGHTS, ModelError, Trained, load, save
from rnncond.contract import Source
from rnncond.text import Vocabulary
from rnncond.text.special_tokens import BOS


def trained(seed=0, hidden=5, **changes) -> Trained:
    torch.manual_seed(seed)
    vocabulary = Vocabulary.train(["a dog runs", "two dogs sleep"])
    config = {"vocab_size": len(vocabulary), "feature_size": 3, "embedding": 4, "hidden": hidden}
    model = systems.build("show_tell", config)
    features = {"fingerprint": "0123456789abcdef", "recipe": {"backbone": "drawn"}, "output": "pooled"}
    return Trained("show_tell", model, vocabulary, features=features, info={"epoch": 3}, **changes)


@pytest.fixture
def folder(tmp_path):
    save(trained(), tmp_path / "model")
    return tmp_path / "model"


def change(folder, **values):
    path = folder / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_reloaded_model_is_the_same(folder):
    original, loaded = trained(), load(folder)
    source, inputs = Source(torch.randn(2, 3)), torch.tensor([[BOS, 4, 5], [BOS, 6, 4]])
    assert loaded.model(source, inputs).equal(original.model.eval()(source, inputs))
    assert loaded.vocabulary == original.vocabulary
    assert loaded.model.config == original.model.config
    assert (loaded.features, loaded.info, loaded.system) == (original.features, original.info, original.system)
    assert loaded.source_vocabulary is None
    assert not loaded.model.training


def test_a_source_vocabulary_is_kept(tmp_path):
    words = Vocabulary.train(["ein Hund"])
    save(trained(source_vocabulary=words), tmp_path / "model")
    assert load(tmp_path / "model").source_vocabulary == words


def test_the_model_id_is_of_weights_and_config(folder):
    described = json.loads((folder / DESCRIPTION).read_text())["model_id"]
    assert trained().model_id == load(folder).model_id == described
    assert len({trained().model_id, trained(seed=1).model_id, trained(hidden=6).model_id}) == 3


def test_a_truecaser_is_kept_and_makes_another_model_of_the_same_weights(tmp_path):
    """What it writes is other text, so sets of its sentences and the registry must tell the two apart."""
    plain, cased = trained(), trained()
    cased.vocabulary = plain.vocabulary.truecasing(["x A", "x A"])
    assert plain.model_id != cased.model_id
    save(cased, tmp_path / "m")
    assert load(tmp_path / "m").model_id == cased.model_id
    assert load(tmp_path / "m").vocabulary == cased.vocabulary
    assert json.loads((tmp_path / "m" / DESCRIPTION).read_text())["model_id"] == cased.model_id


def test_saving_again_replaces_the_model_and_leaves_nothing_else(folder):
    save(trained(seed=1), folder)
    assert load(folder).model_id == trained(seed=1).model_id
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert sorted(path.name for path in folder.iterdir()) == [DESCRIPTION, WEIGHTS]


def cut_weights(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])


def flip_a_bit(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def weights_of_another(folder):
    save(trained(seed=1), folder.parent / "other")
    (folder.parent / "other" / WEIGHTS).replace(folder / WEIGHTS)


BROKEN = {
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "model.safetensors is missing"),
    "no description": (lambda folder: (folder / DESCRIPTION).unlink(), "model.json is missing"),
    "weights cut short": (cut_weights, "cut short, damaged or of another model"),
    "a bit flipped": (flip_a_bit, "cut short, damaged or of another model"),
    "weights of another model": (weights_of_another, "cut short, damaged or of another model"),
    "description cut short": (lambda folder: (folder / DESCRIPTION).write_text('{"format": 1, '), "is damaged"),
    "description is a list": (lambda folder: (folder / DESCRIPTION).write_text("[]"), "is damaged"),
    "newer format": (lambda folder: change(folder, format=2), "has format 2; this version reads 1"),
    "unknown system": (lambda folder: change(folder, system="show_tel"), "Did you mean 'show_tell'"),
    "config of another version": (lambda folder: change(folder, config={"vocab_size": 9, "hiden": 1}), "cannot build"),
    "config of other sizes": (lambda folder: change(folder, config={"vocab_size": 9, "feature_size": 3}), "build"),
    "vocabulary damaged": (lambda folder: change(folder, vocabulary={"format": 1}), "cannot build"),
    "config is a list": (lambda folder: change(folder, config=[9, 3]), r"has \[9, 3\] as config"),
    "system is a number": (lambda folder: change(folder, system=3), "has 3 as system"),
    "no vocabulary": (lambda folder: change(folder, vocabulary=None), "has null as vocabulary"),
    "no info": (lambda folder: change(folder, info=None), "has null as info"),
    "features is text": (lambda folder: change(folder, features="pooled"), 'has "pooled" as features'),
    "features lack a key": (
        lambda folder: change(folder, features={"fingerprint": "0", "recipe": {}}), r"lacks features\.output",
    ),
    "features of another kind": (
        lambda folder: change(folder, features={"fingerprint": "0", "recipe": None, "output": "grid"}),
        r"has null as features\.recipe",
    ),
    "tokenizer damaged": (
        lambda folder: change(folder, vocabulary={"format": 1, "text": {}, "tokenizer": {"model": 3}}),
        "tokenizer is damaged",
    ),
    "newer vocabulary": (lambda folder: change(folder, vocabulary={"format": 9}), "format is 9"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_refused_with_its_reason(folder, kind):
    damage, reason = BROKEN[kind]
    damage(folder)
    with pytest.raises(ModelError, match=reason) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


def test_no_folder(tmp_path):
    with pytest.raises(ModelError, match="There is no model folder"):
        load(tmp_path / "nothing")


def test_lacking_keys_are_named(folder):
    description = json.loads((folder / DESCRIPTION).read_text())
    del description["config"]
    (folder / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(ModelError, match="lacks config"):
        load(folder)


def test_a_failed_save_leaves_the_old_model(folder, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(trained(seed=1), folder)
    monkeypatch.undo()
    assert load(folder).model_id == trained().model_id
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
