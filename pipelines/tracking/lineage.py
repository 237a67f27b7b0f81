"""What a run learnt from and was judged by, as MLflow datasets, and the digest by which scores are comparable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.files.filesystems import locate
from pipelines.inputs.caption_formats import split_lists
from pipelines.inputs.captions import files_of
from pipelines.inputs.corpus import Corpus

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

DIGITS = 32
"""Of SHA-256; MLflow's digests have at most 36."""


def inputs_of(data: Mapping[str, Any], features: Mapping[str, Any] | None) -> list[DatasetInput]:
    """The datasets of a recipe's ``data`` section.

    Args:
        features: of the task: ``fingerprint`` and ``recipe``; None for text.
    """
    if features is None:
        return [
            dataset(path, sha256, {"file": path, "sha256": sha256}, context)
            for context in ("training", "validation")
            for path in pairs_of(data, context == "validation").paths
            for sha256 in [sha256_of(path)]
        ]
    captions, sha256 = data["captions"], sha256_of(data["captions"])
    store = {"store": data["store"], "fingerprint": features["fingerprint"], "output": features["output"],
             "backbone": features["recipe"].get("backbone")}  # fmt: skip
    return [
        dataset(data["store"], features["fingerprint"], store, "training"),
        dataset(captions, sha256, {"file": captions, "sha256": sha256, "split": data["train"]}, "training"),
        dataset(captions, sha256, {"file": captions, "sha256": sha256, "split": data["validation"]}, "validation"),
    ]


def dataset(name: str, digest: str, source: Mapping[str, Any], context: str) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    # MLflow takes two of one name and digest as one, whatever the context.
    shown = f"{name} ({source['split']})" if "split" in source else name
    made = Dataset(shown[-500:], digest[:DIGITS], "local" if "://" not in name else "uri", json.dumps(source))
    return DatasetInput(made, [InputTag("mlflow.data.context", context)])


def held_out(data: Mapping[str, Any]) -> str | None:
    """Digest of what a recipe's run is validated on: scores of two runs compare where it is the same.

    None where the files are no longer there.
    """
    try:
        if "captions" in data:
            identity = [sha256_of(data["captions"]), data["validation"], data["validation_images"]]
            # What is validated on is said beside such captions.
            identity += [sha256_of(file) for file in split_lists(data["captions"])]
        else:
            identity = [pairs_of(data, True).digest, data["validation_lines"]]
    except (OSError, UserError, KeyError):
        return None
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def pairs_of(data: Mapping[str, Any], validation: bool) -> Corpus:
    source, target = ("validation_source", "validation_target") if validation else ("source", "target")
    return Corpus(data[source], data[target], tuple(data["columns"]))


def sha256_of(path: str) -> str:
    """Of a file as it is, or of a folder's files of captions one after the other."""
    digest = hashlib.sha256()
    for file in files_of(path):
        filesystem, inside = locate(file)
        with filesystem.open_input_stream(inside, compression=None) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
