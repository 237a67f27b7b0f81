"""What a captioner is trained on: features from a store, joined with the captions of people."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feature_store import Snapshot, Store, shape_of
from pipelines.config.recipe import CaptionRecipe
from pipelines.console import tell
from pipelines.errors import UserError
from pipelines.evaluation.caption_metrics import score
from pipelines.evaluation.caption_results import tokenizer_for
from pipelines.evaluation.caption_tokenizers import chosen, tokenizer_named
from pipelines.inputs.caption_formats import Captioned
from pipelines.inputs.captions import read_captions
from pipelines.inputs.entries import naming
from pipelines.inputs.matching import match_captions
from pipelines.training.data.feature_batches import Batches
from pipelines.training.data.picture_split import Split, positions_of, split_of
from pipelines.training.data.start_model import REWARDS, reward_of, start_of
from rnncond.checkpoint import tensors_of
from rnncond.rewards import CiderD, Reward
from rnncond.text import Vocabulary


@dataclass(frozen=True)
class CaptionTask:
    """Sent to every worker: all of the data but the features. A ``Task``.

    Attributes:
        vocabulary: as JSON, trained on the captions of the training split.
        features: what a model keeps of them: ``fingerprint``, ``recipe``, ``output``, and ``weights`` where the set has
            their name.
        start: weights to begin with, from ``training.start_from``, whose vocabulary it is then.
    """

    recipe: CaptionRecipe
    snapshot: Snapshot
    train: Split
    validation: Split
    vocabulary: str
    features: dict[str, Any]
    start: dict[str, Tensor] | None = None
    source_vocabulary: None = None

    @property
    def data_id(self) -> str:
        """Changes with anything that the order or the content of batches depends on, but for the recipe."""
        digest = hashlib.sha256(self.features["fingerprint"].encode())
        groups = self.snapshot.row_groups()
        used = np.union1d(self.train.group, self.validation.group)
        digest.update("".join(dict.fromkeys(groups[group].part.sha256 for group in used)).encode())
        digest.update((self.vocabulary + json.dumps(self.validation.references)).encode())
        for split in (self.train, self.validation):
            digest.update("\n".join(split.image_ids).encode())
            for array in (split.group, split.row, split.first, split.tokens):
                digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    def batches(self, rank: int, ranks: int) -> tuple[Batches, Batches]:
        data, training = self.recipe.data, self.recipe.training
        place: dict[str, Any] = {"rank": rank, "ranks": ranks, "memory": data.memory_gb * 2**30}
        images = training.images_per_batch
        captions = None if training.objective.kind == "self_critical" else training.captions_per_image
        train = Batches(self.snapshot, self.train, data.output, images, captions, self.recipe.seed, **place)
        return train, Batches(self.snapshot, self.validation, data.output, images, **place)

    def sizes(self) -> dict[str, int]:
        return {"feature_size": shape_of(self.snapshot.schema.field(self.recipe.data.output))[-1]}

    def reward(self, device: torch.device) -> Reward:
        """CIDEr-D knows how many training images have each n-gram."""
        name = reward_of(self.recipe)
        if name in REWARDS:
            return REWARDS[name]
        image = np.repeat(np.arange(len(self.train.image_ids)), np.diff(self.train.first))
        words = self.train.tokens[:, 1:].astype(np.int64)
        return CiderD(*(torch.from_numpy(part).to(device) for part in (words, image)))

    def count(self) -> int:
        return len(self.validation.image_ids)

    def scores(self, captions: dict[int, str]) -> dict[str, float]:
        ids = self.validation.image_ids
        hypotheses = {ids[image]: captions[image] for image in range(len(ids))}
        references = dict(zip(ids, self.validation.references, strict=True))
        fitting = tokenizer_for(self.recipe.data.target_language)
        return score(hypotheses, references, "simple" if fitting == "auto" else fitting, java_scores=False).corpus

    def sample(self, image: int, caption: str) -> dict[str, Any]:
        return {
            "image_id": self.validation.image_ids[image],
            "caption": caption,
            "references": self.validation.references[image],
        }

    def describe(self) -> str:
        return f"{len(self.train.image_ids):,} images with {len(self.train.tokens):,} captions"


def prepare(recipe: CaptionRecipe) -> tuple[CaptionTask, dict[str, Any]]:
    """The task of a recipe, and what to tell of its data.

    Raises:
        UserError, StoreError: the store or the captions are not there or not what the recipe says; a split is empty.
    """
    data = recipe.data
    tokenizer_named(chosen(tokenizer_for(data.target_language)))  # what is not installed is told before hours of work
    examples = read_captions(data.captions)
    dataset = Store(data.store).open(data.fingerprint, kind="features")
    snapshot = dataset.snapshot()
    if data.output not in snapshot.schema.names:
        outputs = ", ".join(str(output) for output in dataset.recipe.get("outputs", snapshot.schema.names))
        detector = " --backbone torchvision/fasterrcnn_resnet50_fpn_v2" if data.output == "regions" else ""
        raise UserError(
            f"data.output is {data.output!r}, but the features {dataset.fingerprint} in {data.store} have {outputs}. "
            f"Make them: rnncond features IMAGES --store {shlex.quote(data.store)}{detector} --outputs {data.output}. "
            "Where the store has them already in another set, name it in data.fingerprint."
        )
    there = positions_of(snapshot)
    joined = match_captions(examples, there.image_ids)
    train, validation = (in_split(joined, name, data.captions) for name in (data.train, data.validation))
    if data.train_images is not None:
        train = sorted(train, key=lambda example: example.image_id)[: data.train_images]
    validation = sorted(validation, key=lambda example: example.image_id)[: data.validation_images]
    tell_shared(snapshot, train, validation)
    features = {"fingerprint": dataset.fingerprint, "recipe": dataset.recipe, "output": data.output, **dataset.about}
    start = start_of(recipe, features)
    vocabulary = start.vocabulary if start else vocabulary_of(recipe, train)
    task = CaptionTask(
        recipe=recipe,
        snapshot=snapshot,
        train=split_of(there, train, vocabulary, recipe.text.max_length),
        validation=split_of(there, validation, vocabulary, recipe.text.max_length),
        vocabulary=vocabulary.to_json(),
        features=features,
        start=tensors_of(start.model) if start else None,
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


def tell_shared(snapshot: Snapshot, train: list[Captioned], validation: list[Captioned]) -> None:
    """Tell how many pictures of the validation are those of training: by their id, or the file that two ids name."""
    uris = {row["image_id"]: row["uri"] for batch in snapshot.scan(["image_id", "uri"]) for row in batch.to_pylist()}
    learned = {uris[example.image_id] for example in train}
    shared = [example.image_id for example in validation if uris[example.image_id] in learned]
    if shared:
        tell(
            f"{naming(shared, 'picture')} of {len(validation):,} that choose the epoch are trained on as well. Their "
            "scores say nothing of new pictures; take other ones for data.validation."
        )


def in_split(examples: Iterable[Captioned], split: str, path: str) -> list[Captioned]:
    examples = list(examples)
    chosen = [example for example in examples if example.split == split]
    if not chosen:
        splits = ", ".join(sorted({example.split for example in examples}))
        raise UserError(f"{path} has no image of split {split!r} with features; its images with features are {splits}.")
    return chosen


def vocabulary_of(recipe: CaptionRecipe, examples: list[Captioned]) -> Vocabulary:
    settings = recipe.text.model_dump(exclude={"max_length", "truecase"})
    captions = [caption for example in examples for caption in example.captions]
    try:
        vocabulary = Vocabulary.train(captions, **settings)
    except ValueError as error:
        raise UserError(f"text: {error}") from None
    return vocabulary.truecasing(captions) if recipe.text.truecase else vocabulary
