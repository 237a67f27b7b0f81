"""``rnncond caption``: captions of images, or of the features in a store, by a trained model, into a store.

The output is a set of kind ``captions`` in the store OUT, one row an image:

==========  =======================================================================================
image_id    and ``uri``, ``version``: as in the features
caption     the best
score       log P / length penalty + coverage penalty, as the search was asked; ``log_prob`` is log P alone
nbest       list of (caption, score), best first, the caption itself included
model       id of the model
pieces      with --attention: the parts of the caption that the words of the vocabulary are
attention   with --attention: float16, words x places, row-major over the ``places`` of the set's recipe, or words x
            the image's own regions
boxes       with --attention, of a model that reads regions: x1, y1, x2, y2 of each, pixels of the picture as shown
==========  =======================================================================================

The set's fingerprint is that of model, search and features, whether these were computed on the way or read: either
command goes on where the other stopped.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from feature_store import Dataset, Store
from pipelines.api import load_captioner
from pipelines.api.search_arguments import load_models
from pipelines.cluster.resources import Plan
from pipelines.config.choices import Decoding, DecodingPrecision
from pipelines.console import Outcome, Progress
from pipelines.engine import driver, dry_run
from pipelines.engine.counter import COUNTER
from pipelines.engine.failures import Failures
from pipelines.engine.summary import name_current
from pipelines.engine.workers import shipped
from pipelines.errors import UserError
from pipelines.features.cache import Keeping, keeping
from pipelines.features.sources import FromImages, FromStore
from pipelines.files.filesystems import suffix_of
from pipelines.files.row_lines import refuse_unwritable, write_rows
from pipelines.inference.captioner import Captioner, prepare
from pipelines.inference.decoder import about_models
from pipelines.inputs.listing import SUFFIXES
from pipelines.tracking.models import locate, weights_in
from rnncond.search import SearchOptions

Source = FromImages | FromStore | Keeping

VERSION = 1
"""Of the code between features and captions: part of every fingerprint, raised when a change alters captions."""


def run(
    model: str,
    out: str | None,
    images: str | None = None,
    *,
    ensemble: list[str] | tuple[str, ...] = (),
    store: str | None = None,
    weights: str | None = None,
    options: driver.Options = driver.DEFAULTS,
    save_listing: str | None = None,
    lines: str | None = None,
    keep_features: str | None = None,
    tracking_uri: str | None = None,
    decode: Decoding | None = None,
    **asked: Any,
) -> Outcome:
    """The verb as a function.

    Args:
        model, out, images, ensemble, store, weights, lines, keep_features, tracking_uri, decode: see the
            command line; exactly one of ``images`` and ``store``.
        asked: fields of ``SearchOptions``; the model's recipe has the others.

    Raises:
        UserError, StoreError, ModelError: a mistake of the user's, or another writer at work.
    """
    if (images is None) == (store is None):
        raise UserError("Say what to caption: either IMAGES, or --store DIR with features that are computed already.")
    stores = {"--keep-features": keep_features, "--save-listing": save_listing}
    if out is None:
        if images and not re.search(r"[*?\[]|://", images) and not Path(images).exists():
            raise UserError(f"images: there is no file or folder {images}")
        if images is None or not is_one_picture(images):
            raise UserError(
                "Say --out DIR: the store that the captions go to. Without it one picture is captioned, and "
                f"{images or 'a store of features'} is none."
            )
        given = [name for name, value in [*stores.items(), ("--text", lines)] if value is not None]
        if given := given + driver.unlike_defaults(options):
            raise UserError(
                f"{' and '.join(given)}: without --out one picture is captioned, in this process, and nothing is kept; "
                "leave it out, or say --out DIR."
            )
        return print_caption(model, images, ensemble, weights, tracking_uri, **asked)
    if store is not None and save_listing is not None:
        raise UserError("--save-listing is of IMAGES; a store with features is a listing already.")
    if store is not None and weights is not None:
        raise UserError("--weights is of the backbone that reads IMAGES; with --store the features are there already.")
    if store is not None and keep_features is not None:
        raise UserError("--keep-features is of IMAGES; with --store the features are kept already.")
    if store is not None and decode is not None:
        raise UserError("--decode is of IMAGES; with --store nothing is decoded.")
    if keep_features is not None and options.redo_changed:
        raise UserError(
            "--keep-features does not go with --redo-changed: it reads the features that are there. Renew these first, "
            "with `rnncond features ... --redo-changed`, and then `rnncond caption --store ... --redo-changed`."
        )
    dry_run.refuse_kept(options, stores)
    refuse_unwritable(lines, "--text")
    folder = locate(model, tracking_uri)
    names = [model, *ensemble]
    captioner = prepare(load_models([folder, *ensemble], tracking_uri, "cpu"), names, **asked)
    source: Source
    if images is None:
        assert store is not None, "refused above"
        source = FromStore.open(store, captioner.features)
    else:
        source = FromImages.open(images, captioner.features, weights or weights_in(folder), save_listing, decode)
    captioner.check(source.shape)
    dataset = Store(out).dataset(
        "captions",
        recipe_of(captioner, source.shape),
        schema_of(captioner.options, captioner.reads_regions),
        about=about_models(captioner.trained, names),
    )
    row_bytes = captioner.row_bytes(source.shape)
    listed = [images] if images else []
    besides = []
    with ExitStack() as stack:
        if keep_features is not None:
            assert isinstance(source, FromImages), "--store is refused above"
            row_bytes += source.network.row_bytes
            source = kept = stack.enter_context(keeping(source, keep_features, options.takeover))
            besides.append(kept.handle)
        make_worker = shipped(CaptionWorker, source, captioner, dataset.schema)
        if options.dry_run:
            asked_decode: Decoding | None = "local" if images is None else decode
            return dry_run.run(
                dataset, source.chunks(), make_worker, row_bytes, "images", options, asked_decode, listed
            )
        progress = Progress("caption", "images", None)
        summary = driver.run(dataset, source.chunks(), make_worker, progress, row_bytes, options, source.total, besides)
    if lines is not None:
        write_rows(lines, captioned(dataset), ("image_id", "caption"), "--text", dataset.store.files.shown)
    more = source.remarks() | {"model": captioner.description}
    current, hint = name_current(dataset, whole=options.limit is None)
    outcome = summary.outcome("images", more | current, options.redo_changed, hint, listed)
    if lines is not None and summary.not_listed:
        outcome.hint = f"{outcome.hint}\n{lines} has all captions of the set, those {summary.not_listed:,} too."
    return outcome


def captioned(dataset: Dataset) -> Iterator[list[dict[str, Any]]]:
    """All rows of the set without what only a program reads."""
    for batch in dataset.snapshot().scan(["image_id", "uri", "caption", "score"]):
        yield batch.to_pylist()


def is_one_picture(images: str) -> bool:
    """Whether IMAGES is the path or uri of one picture, and no listing, archive or table of them."""
    return suffix_of(images) in SUFFIXES and (Path(images).is_file() or ("://" in images and "*" not in images))


def print_caption(
    model: str,
    picture: str,
    ensemble: list[str] | tuple[str, ...],
    weights: str | None,
    tracking_uri: str | None,
    precision: DecodingPrecision = "float32",
    **asked: Any,
) -> Outcome:
    """Print the caption of one picture, or its ``nbest`` or samples a line each, without Ray.

    Raises:
        UserError: it cannot be captioned.
    """
    captioner = load_captioner(model, *ensemble, weights=weights, tracking_uri=tracking_uri, precision=precision)
    caption = captioner.caption(picture, **asked)
    for alternative in caption.alternatives:
        print(alternative.text)
    summary = {"image": picture, "caption": caption.text, "score": caption.score, "log_prob": caption.log_prob}
    summary |= {"nbest": [alternative._asdict() for alternative in caption.alternatives]}
    return Outcome(summary | {"model": f"{captioner.system} {captioner.model_id}"}, printed=True)


def recipe_of(captioner: Captioner, shape: tuple[int, ...]) -> dict[str, Any]:
    """All that the captions depend on; ``places`` is (rows, columns) of a grid, else empty."""
    return {
        "model": captioner.model_id,
        "system": captioner.system,
        "search": dataclasses.asdict(captioner.options) | {"blocked": list(captioner.options.blocked)},
        "features": captioner.features,
        "places": list(shape[:-1]),
        "version": VERSION,
    } | captioner.unusual_precision


def schema_of(options: SearchOptions, regions: bool = False) -> pa.Schema:
    best = pa.struct([pa.field("caption", pa.string()), pa.field("score", pa.float64())])
    fields = [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("version", pa.string()),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("log_prob", pa.float64(), nullable=False),
        pa.field("nbest", pa.list_(best), nullable=False),
        pa.field("model", pa.string(), nullable=False),
    ]
    if options.attention:
        fields.append(pa.field("pieces", pa.list_(pa.string()), nullable=False))
        fields.append(pa.field("attention", pa.list_(pa.list_(pa.float16())), nullable=False))
    if options.attention and regions:
        fields.append(pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4)), nullable=False))
    return pa.schema(fields)


class CaptionWorker:
    """Captions a work unit of images; lives in an actor."""

    def __init__(self, plan: Plan, source: Source, captioner: Captioner, schema: pa.Schema) -> None:
        self.source, self.captioner, self.schema = source.start(plan), captioner.to(plan.device), schema

    def process(self, unit: pa.Table) -> tuple[pa.Table, pa.Table]:
        failures, rows = Failures.before(unit), []
        for images, values, boxes in self.source(unit, failures):
            for image, caption in zip(images, self.captioner(values, boxes), strict=True):
                if caption is None:
                    failures.add(*image, "compute", "the search found no caption: its rules leave nothing to say")
                else:
                    rows.append(image._asdict() | caption)
            COUNTER.add(len(images))
        return pa.Table.from_pylist(rows, schema=self.schema), failures.table()
