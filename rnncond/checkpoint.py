"""A trained model as a folder: ``model.safetensors`` for the weights and ``model.json`` for all else. Never pickle.

``model.json`` names the system and its config, the vocabularies, the features that the model was trained on (set
fingerprint, recipe and output), and the SHA-256 of the weights, so that a folder whose two files do not belong
together, or whose weights were damaged, is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from rnncond import systems
from rnncond.atomic import replace_folder
from rnncond.contract import System
from rnncond.text import Vocabulary

FORMAT = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


class ModelError(Exception):
    """A model folder that cannot be used: which, why, and what was expected."""


@dataclass
class Trained:
    """A model and all that is needed to use it.

    Attributes:
        system: its name, as ``rnncond.systems.find`` takes it.
        vocabulary: of the sentences that it produces.
        source_vocabulary: of those that it reads; None for a system that describes pictures.
        features: of the pictures that it describes: ``fingerprint``, ``recipe`` and ``output``, and perhaps
            ``weights``, what the user called those of the CNN; else None.
        info: whatever else is worth keeping, as JSON: the training recipe, scores, epoch.
    """

    system: str
    model: System
    vocabulary: Vocabulary
    source_vocabulary: Vocabulary | None = None
    features: dict[str, Any] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def model_id(self) -> str:
        """The first 16 hexadecimal digits of SHA-256 over the weights, the system, its config and the truecaser."""
        weights = safetensors.torch.save(tensors_of(self.model))
        return self.id_with(hashlib.sha256(weights).hexdigest())

    def id_with(self, weights_hash: str) -> str:
        """``model_id``, by the SHA-256 of the weights as hexadecimal digits. Models without a truecaser have the id
        that they had before there were any."""
        truecaser = self.vocabulary.truecaser
        more = [truecaser.as_json()] if truecaser else []
        return model_id(weights_hash, self.system, asdict(self.model.config), *more)


def model_id(weights_hash: str, system: str, config: dict[str, Any], *more: Any) -> str:
    """The id of a model by the SHA-256 of its weights, as hexadecimal digits, its system, its config, and what else
    changes its sentences."""
    identity = json.dumps([weights_hash, system, config, *more], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def pack(trained: Trained) -> dict[str, bytes]:
    """The files of a model folder, by name."""
    weights = safetensors.torch.save(tensors_of(trained.model))
    weights_hash = hashlib.sha256(weights).hexdigest()
    config = asdict(trained.model.config)
    description = {
        "format": FORMAT,
        "model_id": trained.id_with(weights_hash),
        "weights_sha256": weights_hash,
        "system": trained.system,
        "config": config,
        "features": trained.features,
        "info": trained.info,
        "vocabulary": as_json(trained.vocabulary),
        "source_vocabulary": as_json(trained.source_vocabulary),
    }
    return {WEIGHTS: weights, DESCRIPTION: json.dumps(description, ensure_ascii=False, indent=1).encode()}


def as_json(vocabulary: Vocabulary | None) -> dict[str, Any] | None:
    """A vocabulary as a value of ``model.json``."""
    return None if vocabulary is None else json.loads(vocabulary.to_json())


def from_json(description: dict[str, Any] | None) -> Vocabulary | None:
    """The vocabulary that ``as_json`` gave as ``description``.

    Raises:
        ValueError: it is not what ``as_json`` gives.
    """
    return None if description is None else Vocabulary.from_json(json.dumps(description))


def save(trained: Trained, folder: str | Path) -> None:
    """Write the model folder, in place of the one that may be there; a reader sees the old or the new, or none."""
    replace_folder(folder, pack(trained))


def load(folder: str | Path, device: str | torch.device = "cpu") -> Trained:
    """The model of a folder, ready for use: in evaluation mode, on ``device``.

    Raises:
        ModelError: there is no model, a file is missing, cut short or damaged, the two files do not belong together,
            the format is newer than this code, a value is not of its type, or the system is not known here.
    """
    description, weights = read(Path(folder))
    name, config = description["system"], description["config"]
    try:
        model = systems.build(name, {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()})
        model.load_state_dict(safetensors.torch.load(weights))
        vocabulary = Vocabulary.from_json(json.dumps(description["vocabulary"]))
        source_vocabulary = from_json(description["source_vocabulary"])
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise ModelError(f"{folder} holds a model of {name!r} that this version cannot build: {error}") from None
    model = model.to(device).eval()
    return Trained(name, model, vocabulary, source_vocabulary, description["features"], description["info"])


KINDS = {
    "system": str, "config": dict, "weights_sha256": str, "features": dict | None, "info": dict, "vocabulary": dict,
    "source_vocabulary": dict | None,
}  # fmt: skip
"""The type of each value of ``model.json``."""
OF_FEATURES = {"fingerprint": str, "recipe": dict, "output": str}


def read(folder: Path) -> tuple[dict[str, Any], bytes]:
    """A folder's description and weights, found to be whole and to belong together."""
    if not folder.is_dir():
        raise ModelError(f"There is no model folder {folder}. `rnncond train` writes OUT/best and OUT/last.")
    for file in (DESCRIPTION, WEIGHTS):
        if not (folder / file).is_file():
            found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
            raise ModelError(f"{folder} is no model: {file} is missing; the folder has {found}.")
    try:
        description = json.loads((folder / DESCRIPTION).read_bytes())
        version = description["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / DESCRIPTION} is damaged: {error!r}. Take another copy of the model.") from None
    if version != FORMAT:
        raise ModelError(f"{folder} has format {version}; this version reads {FORMAT}. Use a newer rnncond.")
    check(description, KINDS, folder)
    if description["features"] is not None:
        check(description["features"], OF_FEATURES, folder, "features.")
    weights = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != description["weights_sha256"]:
        raise ModelError(
            f"{folder / WEIGHTS} ({len(weights):,} bytes) is cut short, damaged or of another model: its SHA-256 is "
            f"not the one that {DESCRIPTION} names. Take another copy of the model."
        )
    return description, weights


def check(found: dict[str, Any], kinds: dict[str, Any], folder: Path, where: str = "") -> None:
    """Raises ModelError where ``found`` lacks a key, or a value is not of its type."""
    wrong = [f"lacks {where}{key}" for key in kinds if key not in found] or [
        f"has {json.dumps(found[key])[:40]} as {where}{key}"
        for key, kind in kinds.items()
        if not isinstance(found[key], kind)
    ]
    if wrong:
        raise ModelError(f"{folder / DESCRIPTION} {' and '.join(wrong)}. Take another copy of the model.")


def tensors_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights and buffers on the CPU, in one order, none sharing memory with another."""
    return {name: tensor.detach().cpu().clone() for name, tensor in sorted(model.state_dict().items())}
