"""What a training run works on, found and checked by the driver before any worker starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from feature_store import Snapshot, Store
from pipelines.batches import Split, places, split_of
from pipelines.captions import Captioned, join, read_captions
from pipelines.console import UserError
from pipelines.recipe import Recipe
from rnncond.text import Vocabulary


@dataclass(frozen=True)
class Task:
    """Sent to every worker: all of the data but the features.

    Attributes:
        vocabulary: as JSON, trained on the captions of the training split.
        features: what a model keeps of them: ``fingerprint``, ``recipe`` and ``output``.
    """

    recipe: Recipe
    snapshot: Snapshot
    train: Split
    validation: Split
    vocabulary: str
    features: dict[str, Any]

    @property
    def data_id(self) -> str:
        """Changes with anything that the order or the content of batches depends on, but for the recipe."""
        digest = hashlib.sha256(self.features["fingerprint"].encode())
        for split in (self.train, self.validation):
            digest.update("\n".join(split.image_ids).encode())
            for array in (split.group, split.row, split.first, split.tokens):
                digest.update(array.tobytes())
        return digest.hexdigest()[:16]


def prepare(recipe: Recipe) -> tuple[Task, dict[str, Any]]:
    """The task of a recipe, and what to tell of its data.

    Raises:
        UserError, StoreError: the store or the captions are not there or not what the recipe says; a split is empty.
    """
    data = recipe.data
    examples = read_captions(data.captions)
    dataset = Store(data.store).open(data.fingerprint, kind="features")
    snapshot = dataset.snapshot()
    if data.output not in snapshot.schema.names:
        outputs = ", ".join(str(output) for output in dataset.recipe.get("outputs", snapshot.schema.names))
        raise UserError(
            f"data.output is {data.output!r}, but the features {dataset.fingerprint} in {data.store} have {outputs}. "
            f"Make them: rnncond features IMAGES --store {data.store} --outputs {data.output}"
        )
    there = places(snapshot)
    joined = join(examples, there.image_ids)
    train, validation = (in_split(joined, name, data.captions) for name in (data.train, data.validation))
    validation = sorted(validation, key=lambda example: example.image_id)[: data.validation_images]
    vocabulary = vocabulary_of(recipe, train)
    task = Task(
        recipe=recipe,
        snapshot=snapshot,
        train=split_of(there, train, vocabulary, recipe.text.max_length),
        validation=split_of(there, validation, vocabulary, recipe.text.max_length),
        vocabulary=vocabulary.to_json(),
        features={"fingerprint": dataset.fingerprint, "recipe": dataset.recipe, "output": data.output},
    )
    about = {
        "images": len(train),
        "captions": len(task.train.tokens),
        "captions_cut": task.train.cut,
        "validation_images": len(validation),
        "words": len(vocabulary),
        "captions_without_image": len(joined.without_image),
        "images_without_captions": len(joined.without_captions),
    }
    return task, about | ({"unmatched": joined.describe()} if joined.describe() else {})


def in_split(examples: Iterable[Captioned], split: str, path: str) -> list[Captioned]:
    examples = list(examples)
    found = [example for example in examples if example.split == split]
    if not found:
        splits = ", ".join(sorted({example.split for example in examples}))
        raise UserError(f"{path} has no image of split {split!r} with features; its images with features are {splits}.")
    return found


def vocabulary_of(recipe: Recipe, examples: list[Captioned]) -> Vocabulary:
    settings = recipe.text.model_dump(exclude={"max_length"})
    try:
        return Vocabulary.train((caption for example in examples for caption in example.captions), **settings)
    except ValueError as error:
        raise UserError(f"text: {error}") from None
