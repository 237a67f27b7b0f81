"""Weights files of any content are read, or refused in one message."""

import collections
import math
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipelines.errors import UserError
from pipelines.features.weights import fingerprint_weights, load_strictly, read_weights

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


class Planted:
    """Would be run by an unpickler that is not careful."""

    def __reduce__(self):
        return print, ("run",)


def write(path, content) -> str:
    torch.save(content, path)
    return str(path)


WRAPPED = {
    "plain": TENSORS,
    "ordered": collections.OrderedDict(TENSORS),
    "of a training": {"state_dict": TENSORS, "epoch": 3},
    "of another training": {"model": TENSORS, "optimizer": {"lr": 0.1}},
    "of a data-parallel training": {f"module.{name}": tensor for name, tensor in TENSORS.items()},
    "beside other things": {**TENSORS, "version": 2, 7: torch.zeros(1)},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_tensors_are_found_as_trainings_keep_them(tmp_path, kind):
    found = read_weights(write(tmp_path / "w.pth", WRAPPED[kind]))
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_a_path_that_begins_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_file(TENSORS, tmp_path / "w.safetensors")
    assert read_weights("~/w.safetensors").keys() == TENSORS.keys()


OTHERS = {
    "a list": [torch.zeros(2)],
    "a tensor": torch.zeros(2),
    "a number": 3,
    "a text": "weights",
    "nothing": None,
    "an empty mapping": {},
    "a mapping without tensors": {"epoch": 3, "lr": 0.1},
    "a mapping of mappings": {"state_dict": {"a": {"b": torch.zeros(1)}}},
    "numbers for names": {0: torch.zeros(1)},
    "sparse": {"a": torch.eye(3).to_sparse()},
    "complex": {"a": torch.zeros(2, dtype=torch.complex64)},
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("suffix", ["pth", "pt"])
def test_what_is_no_mapping_of_names_to_tensors_is_refused(tmp_path, kind, suffix):
    with pytest.raises(UserError, match=rf"weights: .*w\.{suffix} is no .*tensors by name: ") as raised:
        read_weights(write(tmp_path / f"w.{suffix}", OTHERS[kind]))
    assert "\n" not in str(raised.value)


def bytes_of_other_kinds(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path / "zip", "w") as archive:
        archive.writestr("a.txt", "text")
    np.save(path / "array.npy", np.zeros(3))
    return {
        "empty": b"", "text": b"no weights at all", "zeros": bytes(1000), "pickled": pickle.dumps([1.0]),
        "planted": pickle.dumps({"a": Planted()}), "zip": (path / "zip").read_bytes(),
        "numpy": (path / "array.npy").read_bytes(), "huge header": (1 << 62).to_bytes(8, "little") + b"{}",
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "pt", "bin"])
def test_files_of_other_kinds_are_refused(tmp_path, suffix, capsys):
    for kind, content in bytes_of_other_kinds(tmp_path).items():
        (tmp_path / f"w.{suffix}").write_bytes(content)
        with pytest.raises(UserError, match=r"^weights: ") as raised:
            read_weights(str(tmp_path / f"w.{suffix}"))
        assert "\n" not in str(raised.value), kind
    assert "run" not in capsys.readouterr().out


@given(st.floats(0, 1), st.sampled_from(["safetensors", "pth"]))
def test_a_file_that_is_cut_off_is_refused(tmp_path_factory, share, suffix):
    path = tmp_path_factory.mktemp("cut") / f"w.{suffix}"
    save_file(TENSORS, path) if suffix == "safetensors" else torch.save(TENSORS, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: math.floor(share * (len(whole) - 1))])
    with pytest.raises(UserError, match=r"^weights: "):
        read_weights(str(path))


@pytest.mark.parametrize("path", ["none.pth", ".", "none/w.safetensors"])
def test_no_file(tmp_path, path):
    with pytest.raises(UserError, match="weights: there is no file"):
        read_weights(str(tmp_path / path))


def test_weights_of_another_network_are_refused():
    network = torch.nn.Linear(3, 2)
    named = {name.removeprefix("a."): tensor for name, tensor in TENSORS.items()}
    load_strictly(network, named, set(named), "a network", "w.pth")
    assert torch.equal(network.weight, TENSORS["a.weight"])
    for state, message in [
        ({"weight": named["weight"]}, "1 missing: bias"),
        ({**named, "more.bias": torch.ones(1)}, "1 unexpected: more.bias"),
        ({**named, "bias": torch.ones(5)}, r"bias is \(5,\), expected \(2,\)"),
    ]:
        with pytest.raises(UserError, match=message):
            load_strictly(network, state, {"weight", "bias"}, "a network", "w.pth")


def test_the_fingerprint_is_of_names_shapes_and_values_alone():
    before = fingerprint_weights(TENSORS)
    again = {name: TENSORS[name].double() for name in reversed(TENSORS)}
    assert fingerprint_weights({**again, "num_batches_tracked": torch.tensor(3)}) == before
    changed = {**TENSORS, "a.bias": torch.tensor([1.0, 1.0001])}
    assert fingerprint_weights(changed) != before
    assert fingerprint_weights({**TENSORS, "a.weight": TENSORS["a.weight"].view(3, 2)}) != before
