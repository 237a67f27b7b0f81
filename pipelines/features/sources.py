"""Where a captioner's features come from: a store, or images through the backbone of the model's training.

Either is sent to every actor, started there, and called with a unit; it gives the unit's images with their features,
batch by batch, and notes what failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Snapshot, Store, fingerprint, shape_of
from pipelines.cluster.resources import Plan
from pipelines.config.choices import Decoding
from pipelines.engine.failures import Failures
from pipelines.errors import UserError
from pipelines.features import backbones
from pipelines.features.columns import Values, joined, of_column
from pipelines.features.featurizer import Network, Outputs, featurizer_of
from pipelines.features.loading import PART
from pipelines.features.preprocess import Loaded
from pipelines.inputs.listing import CHUNK_ROWS, Listing

BATCH = 64
"""Images given at once."""
READ_ROWS = 4 * BATCH
"""Images whose features are read from a store at once."""


class Image(NamedTuple):
    """What a caption's row has of its image."""

    image_id: str
    uri: str
    version: str | None


Boxes = Values | None
"""Of images with regions: (L, 4) x1, y1, x2, y2 of each."""
Batches = Iterator[tuple[list[Image], Values, Boxes]]
"""Images, their features in float16, and the boxes of their regions."""


class FromStore:
    """Features that are there already."""

    def __init__(self, snapshot: Snapshot, output: str) -> None:
        self.snapshot, self.output = snapshot, output
        self.shape = shape_of(snapshot.schema.field(output))
        self.columns = [output, "boxes"] if output == "regions" else [output]
        self.total = snapshot.rows

    @classmethod
    def open(cls, store: str, features: Mapping[str, Any]) -> FromStore:
        """The set in ``store`` that a model with ``features`` (of ``Trained``) was trained on.

        Raises:
            UserError: it is not there, or empty; the message says what the sets that are there differ in.
            StoreError: there is no store.
        """
        known = Store(store)
        there = [dataset for dataset in known.datasets() if dataset.kind == "features"]
        wanted = [dataset for dataset in there if dataset.fingerprint == features["fingerprint"]]
        if not there:
            known.open(kind="features")  # says what is there instead
        if not wanted:
            lines = [
                f"  {dataset.fingerprint}: {'; '.join(differences(dataset.recipe, features['recipe']))}"
                for dataset in there
            ]
            raise UserError(
                f"The model was trained on the features {features['fingerprint']}, and {store} has others:\n"
                + "\n".join(lines)
                + "\nGive a store that has them, make them with `rnncond features`, or caption the images themselves."
            )
        snapshot = wanted[0].snapshot()
        if not snapshot.rows:
            raise UserError(f"The features {features['fingerprint']} in {store} have no image yet; `rnncond features` "
                            "computes them.")  # fmt: skip
        return cls(snapshot, features["output"])

    def chunks(self) -> Iterator[pa.Table]:
        """The images, as a listing gives them, and the number of the part that has their features."""
        held, rows = [], 0
        for number, part in enumerate(self.snapshot.parts):
            for batch in self.snapshot.scan(Image._fields, [part]):
                batch = batch.append_column("problem", pa.nulls(batch.num_rows, pa.string()))
                held.append(batch.append_column(PART, pa.array([number] * batch.num_rows, pa.int32())))
                rows += batch.num_rows
                if rows >= CHUNK_ROWS:
                    yield pa.Table.from_batches(held)
                    held, rows = [], 0
        if held:
            yield pa.Table.from_batches(held)

    def start(self, plan: Plan) -> FromStore:
        return self

    def __call__(self, unit: pa.Table, failures: Failures) -> Batches:
        for number in pc.unique(unit[PART]).to_pylist():
            # The one part alone: ids that come in no order would be looked for in all of them.
            part = replace(self.snapshot, parts=[self.snapshot.parts[number]])
            yield from self._of_part(part, unit["image_id"].filter(pc.equal(unit[PART], number)).combine_chunks())

    def _of_part(self, part: Snapshot, ids: pa.Array) -> Batches:
        for start in range(0, len(ids), READ_ROWS):
            table = part.take(ids.slice(start, READ_ROWS), [*Image._fields, *self.columns])
            some = [Image(**row) for row in table.select(Image._fields).to_pylist()]
            values, boxes = of_column(table[self.output]), boxes_of(table)
            for first in range(0, len(some), BATCH):
                these = slice(first, first + BATCH)
                yield some[these], values[these], None if boxes is None else boxes[these]

    def remarks(self) -> dict[str, Any]:
        failed = self.snapshot.failed
        return {"images without features": failed} if failed else {}


class FromImages:
    """Images, and the backbone that turns them into features."""

    def __init__(
        self,
        listing: Listing,
        chunks: Iterator[pa.Table],
        network: Network,
        output: str,
        decode: Decoding | None = None,
    ) -> None:
        self.listing, self._chunks, self.decode = listing, chunks, decode
        self.network, self.output = network, output
        self.shape = tuple(network.shapes[output])
        self.total = listing.total

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_chunks": None}  # the driver alone lists

    @classmethod
    def open(
        cls,
        images: str,
        features: Mapping[str, Any],
        weights: str | None,
        save_listing: str | None = None,
        decode: Decoding | None = None,
    ) -> FromImages:
        """What IMAGES names, with the backbone of ``features`` (of ``Trained``).

        Raises:
            UserError: no such images, or no such backbone.
        """
        listing = Listing(images)
        chunks = listing.begin(save_listing)  # a wrong IMAGES is told before a network is built
        return cls(listing, chunks, rebuild(features, weights), features["output"], decode)

    def chunks(self) -> Iterator[pa.Table]:
        """What is listed; once."""
        return self._chunks

    def start(self, plan: Plan) -> FromImages:
        self.featurize = featurizer_of(self.network, plan, self.decode)
        return self

    def __call__(self, unit: pa.Table, failures: Failures) -> Batches:
        return (self.give(*batch) for batch in self.batches(unit, failures))

    def batches(self, unit: pa.Table, failures: Failures) -> Iterator[tuple[list[Loaded], Outputs]]:
        """Some ``BATCH`` images each, with all outputs."""
        loaded: list[Loaded] = []
        found: list[Outputs] = []
        for images, outputs in self.featurize(unit, failures):
            loaded += images
            found.append(outputs)
            if len(loaded) >= BATCH:
                yield loaded, together(found)
                loaded, found = [], []
        if loaded:
            yield loaded, together(found)

    def give(self, loaded: list[Loaded], outputs: Outputs) -> tuple[list[Image], Values, Boxes]:
        images = [Image(image.image_id, image.uri, image.version) for image in loaded]
        return images, outputs[self.output], outputs.get("boxes")

    def remarks(self) -> dict[str, Any]:
        return {"other files ignored": self.listing.ignored} if self.listing.ignored else {}


def together(found: list[Outputs]) -> Outputs:
    return {name: joined([outputs[name] for outputs in found]) for name in found[0]}


def boxes_of(table: pa.Table) -> Boxes:
    return of_column(table["boxes"]) if "boxes" in table.column_names else None


def check_backbone(features: Mapping[str, Any] | None, weights: str) -> None:
    """Refuse, before any work, a file of weights that the model's features were not computed with.

    Raises:
        UserError: that is so, or the model is a translator.
    """
    if not features:
        raise UserError(f"The weights {weights} are for a captioner; a translator has no CNN.")
    rebuild(features, weights)


def rebuild(features: Mapping[str, Any], weights: str | None) -> Network:
    """The backbone whose features have the recipe that the model was trained on.

    Args:
        weights: a file, ``pretrained`` or ``random``; None for what the features were made with, where that is no
            file. Of features that do not say, random weights and then the download are tried.

    Raises:
        UserError: it cannot be built, or computes other features; the message says what they differ in.
    """
    recipe, made_with = features["recipe"], features.get("weights")
    name = recipe["backbone"]
    if weights is None and made_with not in (None, "pretrained", "random"):
        raise UserError(
            f"The model reads features of {name} that were made with the weights file {made_with} "
            f"({recipe['weights'][:16]}...), which is not kept with the model; say where it is: --weights FILE."
        )
    weights = weights or made_with
    found = build(recipe, weights or "random")
    if found.recipe["weights"] != recipe["weights"] and weights is None:
        try:
            found = build(recipe, "pretrained")
        except UserError as error:
            raise UserError(
                f"The model reads features of {name} with the weights {recipe['weights'][:16]}...; say where they are: "
                f"--weights FILE. ({error})"
            ) from None
    if wrong := differences(found.recipe, recipe):
        raise UserError(
            f"The model was trained on the features {features['fingerprint']}; {name} with the weights "
            f"{weights or 'pretrained'} gives {fingerprint(found.recipe)}: {'; '.join(wrong)}. Give the weights that "
            "the features were computed with: --weights FILE."
        )
    return found


def build(recipe: Mapping[str, Any], weights: str) -> Network:
    return backbones.load(
        recipe["backbone"], weights, tuple(recipe["outputs"]), recipe.get("regions"), recipe.get("size")
    )


def differences(found: Any, expected: Any, path: str = "") -> list[str]:
    """Where two recipes differ, a line for each key: what was found and what was expected."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        keys = sorted({*found, *expected})
        return [
            line for key in keys for line in differences(found.get(key), expected.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if found == expected else [f"{path} is {brief(found)}, expected {brief(expected)}"]


def brief(value: Any) -> str:
    """``value``; of a hash its beginning, which is enough to tell two apart."""
    shown = str(value)
    return f"{shown[:16]}..." if re.fullmatch(r"[0-9a-f]{32,}", shown) else shown
