"""Weights of networks: read from files without running anything in them, loaded strictly, and hashed."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pipelines.errors import UserError

Built = TypeVar("Built")


def as_json(values: Any) -> Any:
    """``values`` as they will be read back: tuples are lists."""
    return json.loads(json.dumps(values))


def fingerprint_weights(state: dict[str, Tensor]) -> str:
    """SHA-256 of the weights that are used, whatever the file that held them: names, shapes, values as float32."""
    digest = hashlib.sha256()
    for key in sorted(key for key in state if not key.endswith("num_batches_tracked")):
        values = state[key].detach().cpu().float().contiguous().numpy()
        digest.update(f"{key}{values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()


def release_of(releases: Any, weights: str) -> Any:
    """The member of torchvision's enumeration ``releases`` that a file is by its name, else its default; it fixes the
    preprocessing."""
    named = [release for release in releases if Path(release.url).stem == Path(weights).stem]
    return named[0] if named else releases.DEFAULT


def read_weights(path: str) -> dict[str, Tensor]:
    """The tensors in a weights file, by name; nothing in the file is run.

    Raises:
        UserError: there is no such file, or it is of another kind.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"weights: there is no file {path}; give a file, or `pretrained`, or `random`")
    expected = f"weights: {path} is no .safetensors, and no .pth or .pt of tensors by name"
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its own message advises to load the file nonetheless
        raise UserError(f"{expected}: it is damaged, or holds more than tensors; expected tensors only") from error
    except (Exception, SystemExit) as error:  # whatever the parsers of foreign bytes meet
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(f"{expected}: {reason}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping):
        raise UserError(f"{expected}: it holds a {type(state).__name__}, expected a mapping of names to tensors")
    tensors = {
        key.removeprefix("module."): value
        for key, value in state.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if not tensors:
        names = ", ".join(sorted(map(str, state))[:3]) or "nothing"
        raise UserError(f"{expected}: it holds {names}, and no tensor")
    unreadable = next((key for key, value in tensors.items() if not is_plain(value)), None)
    if unreadable:
        raise UserError(f"{expected}: {unreadable} is sparse, quantized or complex, expected plain numbers")
    return tensors


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers that a network can compute with."""
    plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta
    return plain and not tensor.is_complex()


def load_strictly(network: nn.Module, state: dict[str, Tensor], known: set[str], name: str, path: str) -> None:
    """Every weight of ``network`` must be there in its shape; only parts that it no longer uses may be left over."""
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unused = {key.split(".")[0] for key in known} - {key.split(".")[0] for key in wanted}
    foreign = [key for key in state if key not in known and key.split(".")[0] not in unused]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    differing = {"missing": missing, "unexpected": foreign, "of another shape": shapes}
    if any(differing.values()):
        listed = "; ".join(
            f"{len(keys):,} {what}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
            for what, keys in differing.items()
            if keys
        )
        raise UserError(f"weights: {path} is not of {name}: {listed}")
    network.load_state_dict({key: state.get(key, value) for key, value in wanted.items()})


def seeded(build: Callable[[], Built]) -> Built:
    """What ``build`` makes, with the same random numbers each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def download(name: str, fetch: Callable[[], Built]) -> Built:
    """What ``fetch`` brings of the network ``name``, or a UserError that says how to do without."""
    try:
        return fetch()
    except Exception as error:  # urllib, requests, huggingface_hub and timm all have their own
        raise UserError(
            f"weights: could not download those of {name} ({type(error).__name__}: {error}); "
            "give a file with --weights FILE, or check the network"
        ) from error
