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
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any, Literal

import pyarrow as pa
import ray
import torch
import typer

from feature_store import Dataset, Store
from pipelines.cluster.resources import Plan
from pipelines.console import Outcome, Progress
from pipelines.engine import driver
from pipelines.engine.failures import Failures
from pipelines.errors import UserError
from pipelines.features.cache import Keeping, keeping
from pipelines.features.sources import FromImages, FromStore
from pipelines.inference.captioner import Captioner, prepare
from pipelines.tracking.models import locate, weights_in
from pipelines.verbs.options import TrackingUri
from rnncond import checkpoint
from rnncond.search import SearchOptions

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

Source = FromImages | FromStore | Keeping

VERSION = 1
"""Of the code between features and captions: part of every fingerprint, raised when a change alters captions."""

EXAMPLES = """
Examples:

  rnncond caption photos/ --model runs/show_tell --out captioned --weights squeezenet1_0.safetensors

  rnncond caption --store store --model runs/show_attend_tell --out captioned --beam 5 --nbest 3 --attention

  rnncond caption photos/ --model runs/show_tell --out captioned --keep-features store

  rnncond caption --store store --model runs/first --ensemble runs/second --ensemble runs/third --out captioned

  rnncond caption 's3://bucket/photos/' --model models:/captioner@champion --out s3://bucket/captions --address auto

Run the same command again to go on after an interruption, or to add images that are new.
"""


@app.command(epilog=EXAMPLES)
def command(
    model: Annotated[str, typer.Option(help="a run's folder, a model folder, runs:/RUN_ID/PATH or models:/NAME@ALIAS")],
    out: Annotated[str, typer.Option(help="folder or uri of the captions' store; made if it is not there")],
    images: Annotated[
        str | None,
        typer.Argument(
            help="a folder, a glob, an s3:// or gs:// prefix, a picture, tar shards, Parquet with images, "
            "or a listing: .txt, .csv, .jsonl, .parquet"
        ),
    ] = None,
    store: Annotated[str | None, typer.Option(help="in place of IMAGES: a store with their features")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="of the backbone, for IMAGES: a file, `pretrained` or `random`; "
            "what came with the model, or fits it, if left out"
        ),
    ] = None,
    beam: Annotated[int, typer.Option(min=1, help="hypotheses followed at once; 1 is greedy")] = 5,
    nbest: Annotated[int, typer.Option(min=1, help="captions kept of each image, at most the beam")] = 1,
    attention: Annotated[bool, typer.Option("--attention", help="keep where each word looked")] = False,
    max_length: Annotated[
        int | None, typer.Option(help="most words; by default these as in the model's recipe")
    ] = None,
    min_length: Annotated[int | None, typer.Option(help="fewest words")] = None,
    length_penalty: Annotated[
        Literal["none", "average", "gnmt"] | None,
        typer.Option(help="what divides a caption's log-probability: 1, its length, or GNMT's"),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="exponent of GNMT's length penalty")] = None,
    coverage_penalty: Annotated[float | None, typer.Option(help="weight of GNMT's coverage penalty")] = None,
    no_repeat_ngram: Annotated[int | None, typer.Option(help="no sequence of so many words twice; 0 for any")] = None,
    ensemble: Annotated[
        list[str] | None, typer.Option(help="a further model of the same vocabulary and features; several times")
    ] = None,
    keep_features: Annotated[
        str | None,
        typer.Option(
            help="a store for the features of IMAGES, as of `rnncond features`; those it has are not computed"
        ),
    ] = None,
    rows_per_part: Annotated[
        int | None, typer.Option(min=1, help="images a part; by default by size and number")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="actors; by default one a GPU, or one a CPU")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs to use, 0 for none; by default all")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="try images again that failed before")] = False,
    redo_changed: Annotated[
        bool, typer.Option("--redo-changed", help="do images again that have changed since they were read")
    ] = False,
    save_listing: Annotated[
        str | None, typer.Option(help="a .parquet file for what IMAGES lists, to be given as IMAGES later")
    ] = None,
    takeover: Annotated[bool, typer.Option("--takeover", help="write although another writer seems to live")] = False,
    address: Annotated[
        str | None, typer.Option(help="of a Ray cluster; by default RAY_ADDRESS, else Ray starts here")
    ] = None,
    tracking_uri: TrackingUri = None,
) -> Outcome:
    """Caption images, or the features in a store, that OUT has no caption of yet."""
    options = driver.Options(workers, gpus, rows_per_part, retry_failed, takeover, address, redo_changed)
    asked = {"max_length": max_length, "min_length": min_length, "length_penalty": length_penalty, "alpha": alpha,
             "coverage_beta": coverage_penalty, "no_repeat_ngram": no_repeat_ngram}  # fmt: skip
    asked = {name: value for name, value in asked.items() if value is not None}
    return run(
        model, out, images, ensemble=ensemble or (), store=store, weights=weights, options=options,
        save_listing=save_listing, keep_features=keep_features, tracking_uri=tracking_uri, beam=beam, nbest=nbest,
        attention=attention, **asked,
    )  # fmt: skip


def run(
    model: str,
    out: str,
    images: str | None = None,
    *,
    ensemble: list[str] | tuple[str, ...] = (),
    store: str | None = None,
    weights: str | None = None,
    options: driver.Options = driver.DEFAULTS,
    save_listing: str | None = None,
    keep_features: str | None = None,
    tracking_uri: str | None = None,
    **asked: Any,
) -> Outcome:
    """The verb as a function.

    Args:
        model, out, images, ensemble, store, weights, keep_features, tracking_uri: see ``command``; exactly one of
            ``images`` and ``store``.
        asked: fields of ``SearchOptions``; the model's recipe has the others.

    Raises:
        UserError, StoreError, ModelError: a mistake of the user's, or another writer at work.
    """
    if (images is None) == (store is None):
        raise UserError("Say what to caption: either IMAGES, or --store DIR with features that are computed already.")
    if store is not None and save_listing is not None:
        raise UserError("--save-listing is of IMAGES; a store with features is a listing already.")
    if store is not None and weights is not None:
        raise UserError("--weights is of the backbone that reads IMAGES; with --store the features are there already.")
    if store is not None and keep_features is not None:
        raise UserError("--keep-features is of IMAGES; with --store the features are kept already.")
    if keep_features is not None and options.redo_changed:
        raise UserError(
            "--keep-features does not go with --redo-changed: it reads the features that are there. Renew these first, "
            "with `rnncond features ... --redo-changed`, and then `rnncond caption --store ... --redo-changed`."
        )
    names = [model, *ensemble]
    folders = [locate(name, tracking_uri) for name in names]
    captioner = prepare([checkpoint.load(folder) for folder in folders], names, **asked)
    source = (
        FromStore.open(store, captioner.features)
        if store
        else FromImages.open(images, captioner.features, weights or weights_in(folders[0]), save_listing)
    )
    captioner.check(source.shape)
    dataset = Store(out).dataset(
        "captions", recipe_of(captioner, source.shape), schema_of(captioner.options, captioner.reads_regions)
    )
    row_bytes = captioner.row_bytes(source.shape)
    besides = []
    with ExitStack() as stack:
        if keep_features is not None:
            row_bytes += source.network.row_bytes
            source = stack.enter_context(keeping(source, keep_features, options.takeover))
            besides.append(source.handle)
        make_worker = partial(CaptionWorker.on, source, captioner, dataset.schema)
        progress = Progress("caption", "images", None)
        totals = driver.run(dataset, source.chunks(), make_worker, progress, row_bytes, options, source.total, besides)
    return outcome(dataset, captioner, source, totals, options.redo_changed)


def recipe_of(captioner: Captioner, shape: tuple[int, ...]) -> dict[str, Any]:
    """All that the captions depend on; ``places`` is (rows, columns) of a grid, else empty."""
    return {
        "model": captioner.model_id,
        "system": captioner.system,
        "search": dataclasses.asdict(captioner.options) | {"blocked": list(captioner.options.blocked)},
        "features": captioner.features,
        "places": list(shape[:-1]),
        "version": VERSION,
    }


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


def outcome(
    dataset: Dataset, captioner: Captioner, source: Source, totals: driver.Totals, redo_changed: bool
) -> Outcome:
    summary = totals.summary("images") | source.remarks()
    summary["model"] = f"{captioner.system} {captioner.model_id}"
    summary |= {"out": dataset.store.files.shown, "set": dataset.fingerprint}
    hint = totals.hint(redo_changed) or f"rnncond report {dataset.store.files.shown}"
    return Outcome(summary, totals.failed + totals.failed_before, totals.failures, hint)


class CaptionWorker:
    """Captions a unit of images; lives in an actor."""

    def __init__(self, parts: ray.ObjectRef, schema: pa.Schema, plan: Plan) -> None:
        torch.set_num_threads(plan.cpus)
        source, captioner = ray.get(parts)
        self.source, self.captioner, self.schema = source.start(plan), captioner.to(plan.device), schema

    @classmethod
    def on(cls, source: Source, captioner: Captioner, schema: pa.Schema, plan: Plan):
        """What makes a worker in an actor. The weights travel once, through the object store."""
        return partial(cls, ray.put((source, captioner)), schema, plan)

    def process(self, unit: pa.Table) -> tuple[pa.Table, pa.Table]:
        failures, rows = Failures.before(unit), []
        for images, *features in self.source(unit, failures):
            for image, said in zip(images, self.captioner(*features), strict=True):
                if said is None:
                    failures.add(*image, "compute", "the search found no caption: its rules leave nothing to say")
                else:
                    rows.append(image._asdict() | said)
        return pa.Table.from_pylist(rows, schema=self.schema), failures.table()
