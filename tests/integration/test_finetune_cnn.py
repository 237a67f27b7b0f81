"""examples/finetune_cnn.py: the CNN learns the words of captions, in its last layers alone."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipelines.demo.cnn import BACKBONE
from pipelines.features import backbones
from pipelines.inputs.caption_formats import Captioned

SCRIPT = Path(__file__).parents[2] / "examples" / "finetune_cnn.py"
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("finetune_cnn", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["finetune_cnn"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["finetune_cnn"]


@pytest.fixture
def captions(tmp_path):
    """32 pictures to train and 8 in val, of one colour each, which one of two captions names."""
    rng = random.Random(1)
    rows = []
    for number in range(40):
        name = rng.choice(list(COLOURS))
        Image.new("RGB", (40, 40), tuple(c + rng.randint(-30, 30) for c in COLOURS[name])).save(
            tmp_path / f"{number}.png"
        )
        split = "val" if number >= 32 else "train"
        rows.append({"image_id": str(number), "file": f"{number}.png", "split": split})
        rows[-1]["captions"] = [f"something {name}", "a picture"]
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def weights(tmp_path):
    """As a file: without one, each network that is built of random numbers is the same."""
    network = backbones.load(BACKBONE, "random").trunk.network
    path = tmp_path / "cnn.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


def asked(captions, weights, *more):
    out = captions.parent / "out.safetensors"
    words = ["--backbone", BACKBONE, "--weights", str(weights), "--out", str(out), "--batch", "8", "--threads", "1"]
    return [str(captions), *words, *more], out


def test_words_are_learned_by_the_last_layers(script, captions, weights):
    arguments, out = asked(captions, weights, "--epochs", "6", "--rate", "3e-3", "--min-pictures", "8")
    script.main(arguments)
    before, after = load_file(weights), load_file(out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith(("stages.3", "final_conv", "stages.2")) for name in changed), changed
    assert not [name for name in changed if "running" in name]

    tuned, plain = (backbones.load(BACKBONE, str(file)) for file in (out, weights))
    assert tuned.shapes == plain.shapes and tuned.recipe["weights"] != plain.recipe["weights"]
    pictures = [tuned.preprocess(Image.new("RGB", (40, 40), colour)) for colour in COLOURS.values()]
    far, near = (
        torch.dist(*torch.from_numpy(network(pictures)["pooled"]).float())
        / torch.from_numpy(network(pictures)["pooled"]).std()
        for network in (tuned, plain)
    )
    assert far > near, "the colours, which captions name, are further apart"


def test_the_loss_of_an_epoch_is_that_of_the_file(script, captions, weights):
    """Of the best epoch, in which no colour is mistaken: every picture of a word comes before all others."""
    told = []
    finetune = script.finetune
    script.finetune = lambda options: told.extend(finetune(options))
    script.main(asked(captions, weights, "--epochs", "6", "--rate", "3e-3", "--min-pictures", "8")[0])
    losses = [loss for loss, _ in told]
    assert len(told) == 6 and min(losses) < losses[0]
    assert max(precision for _, precision in told) == 1


def test_a_killed_training_goes_on_to_the_same_weights(script, captions, weights):
    arguments, out = asked(captions, weights, "--epochs", "4", "--rate", "3e-3", "--min-pictures", "8")
    script.main(arguments)
    whole = load_file(out)
    out.unlink()

    kept = out.with_suffix(".progress")
    assert not kept.exists()
    training = subprocess.Popen([sys.executable, str(SCRIPT), *arguments], stdout=subprocess.DEVNULL)
    while not kept.exists():
        assert training.poll() is None
        time.sleep(0.01)
    training.send_signal(signal.SIGKILL)
    training.wait()

    with pytest.raises(SystemExit, match=r"is of a training with epochs 4; give the same, or remove .*progress"):
        script.main([*arguments, "--epochs", "5"])
    script.main(arguments)
    again = load_file(out)
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    assert not kept.exists()


def test_damaged_progress_is_told(script, captions, weights):
    arguments, out = asked(captions, weights, "--min-pictures", "8")
    kept = out.with_suffix(".progress")
    for content in (b"", b"PK\x03\x04", os.urandom(1000)):
        kept.write_bytes(content)
        with pytest.raises(SystemExit, match=r"out\.progress: .*; remove .*out\.progress to begin anew"):
            script.main(arguments)


def test_average_precision_by_hand(script):
    scores = torch.tensor([[3.0, 1, 0], [2.0, 2, 0], [1.0, 3, 0]])
    right = torch.tensor([[True, True, False], [False, False, False], [True, False, False]])
    first, second = (1 + 2 / 3) / 2, 1 / 3  # and no picture has the third word
    assert script.mean_average_precision(scores, right) == pytest.approx((first + second) / 2)


def test_labels_are_shares_of_captions(script):
    example = Captioned("1", "1.png", "train", ("A dog runs", "a Dog, a cat"))
    words = script.words_of([example], 1)
    assert list(words) == ["a", "cat", "dog", "runs"]
    assert script.labels([example], words).tolist() == [[1, 0.5, 1, 0.5]]
    assert script.words_of([example], 2) == {}, "a word counts once a picture"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--backbone", "timm/vit_tiny_patch16_224", "--weights", "random"], "has no stages"),
        (["--backbone", "torchvision/fasterrcnn_resnet50_fpn_v2", "--weights", "random"], "is a detector"),
        (["--out", "weights.pth"], "weights.pth is to be a .safetensors file"),
        (["--min-pictures", "100"], "0 words of 100 pictures; expected some of each"),
    ],
)
def test_mistakes_are_told(script, captions, weights, change, message):
    with pytest.raises(SystemExit, match=message):
        script.main(asked(captions, weights, *change)[0])


def test_a_count_of_nothing_is_told(script, captions, weights, capsys):
    for option in ("--epochs", "--batch", "--min-pictures", "--threads"):
        with pytest.raises(SystemExit):
            script.main(asked(captions, weights, option, "0")[0])
        assert f"argument {option}: 0 is less than 1" in capsys.readouterr().err


def test_a_picture_that_is_not_there_is_told(script, captions, weights):
    (captions.parent / "3.png").unlink()
    with pytest.raises(SystemExit, match=r"3\.png: .*No such file"):
        script.main(asked(captions, weights)[0])
