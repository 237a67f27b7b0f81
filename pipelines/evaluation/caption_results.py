"""Captions to be scored: made here from a store of features, written by ``rnncond caption``, or those of a file."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store import Dataset, Snapshot
from pipelines import console
from pipelines.config.choices import DecodingPrecision
from pipelines.console import tell
from pipelines.errors import UserError
from pipelines.evaluation.caption_metrics import score, shuffled_cider
from pipelines.evaluation.hypotheses import read_hypotheses
from pipelines.evaluation.results import (
    CAPTIONS,
    Evaluation,
    Results,
    Row,
    RowAttention,
    Seen,
    about_output,
    check_written,
    failures_of,
    ids_of,
    open_output,
    rounded,
    seen_by_models,
)
from pipelines.features.columns import of_column
from pipelines.inputs.caption_formats import Captioned
from pipelines.inputs.captions import read_captions
from pipelines.inputs.entries import naming
from pipelines.inputs.matching import match_captions
from rnncond.checkpoint import Trained

if TYPE_CHECKING:
    from pipelines.features.sources import FromStore
    from pipelines.inference.captioner import Captioner

BATCH = 64
DECIMALS = 5
COLUMNS = ("image_id", "uri", "caption", "log_prob", "nbest")
"""Of a set of captions, all but the large ones, pieces and attention."""


def from_model(
    trained: Trained,
    model: str,
    data: str | None,
    store: str | None,
    split: str,
    search: Mapping[str, Any],
    precision: DecodingPrecision = "float32",
) -> Results:
    """Caption a split from the features in a store, in this process.

    Args:
        search: fields of ``SearchOptions``; the model's recipe has the others.

    Raises:
        UserError: the model does not say what it was trained with, the store has no such features, or the search is
            none for this model.
    """
    from pipelines.features.sources import FromStore
    from pipelines.inference.captioner import prepare
    from pipelines.inference.decoder import unusual

    trained_on = trained.info.get("recipe", {}).get("data", {})
    store, data = store or trained_on.get("store"), data or trained_on.get("captions")
    if not store or not data:
        raise UserError(f"The model {model} does not say what it was trained with; say --store and --data.")
    if trained.features is None:
        raise UserError(f"The model {model} reads text; only one that describes pictures has captions to score.")
    source = FromStore.open(store, trained.features)
    everyone, stored = read_captions(data), ids_of(source.snapshot)
    matches = match_captions(of_split(everyone, split, data), stored)
    captioner = prepare([trained], [model], precision, **search)
    captioner.check(source.shape)

    results = Results(CAPTIONS, [], [f"{name}: no features in {store}" for name in matches.without_image])
    results.target_language = trained_on.get("target_language")
    same = data == trained_on.get("captions")
    results.seen = seen_of(trained_on, matches.examples, stored, everyone if same else None)
    with console.Progress("captions", "images", len(matches.examples)) as progress:
        for start in range(0, len(matches.examples), BATCH):
            examples = matches.examples[start : start + BATCH]
            rows = dict(caption_images(captioner, source, [example.image_id for example in examples]))
            silent = [image_id for image_id, row in rows.items() if row is None]
            results.missing += [
                f"{image_id}: the search found no caption: its rules leave nothing to say" for image_id in silent
            ]
            results.rows += [with_references(row, e) for e in examples if (row := rows[e.image_id])]
            progress.advance(len(examples), failed=len(silent))
    results.about = {
        "model": {"id": trained.model_id, "system": trained.system, "folder": model},
        "features": trained.features,
        "search": unusual(dataclasses.asdict(captioner.options)) | captioner.unusual_precision,
        "data": data,
        "split": split,
    }
    attending = captioner.with_options(dataclasses.replace(captioner.options, attention=True))
    results.attend = lambda ids: (row for _, row in caption_images(attending, source, ids) if row)
    return results


def seen_of(
    trained_on: Mapping[str, Any], scored: list[Captioned], stored: list[str], everyone: list[Captioned] | None
) -> Seen | None:
    """How many of the ``scored`` images are those that a model with this section ``data`` has seen; None where its
    captions are not there any more.

    Args:
        scored: under the ids of ``stored``, the images in the store.
        everyone: the captions that it was trained with, where they are read already.
    """
    try:
        everyone = everyone or read_captions(trained_on["captions"])
        known = match_captions(everyone, stored).examples
    except (UserError, KeyError):
        return None
    of = {name: [e.image_id for e in known if e.split == trained_on.get(name)] for name in ("train", "validation")}
    of = {name: sorted(ids)[: trained_on.get(f"{name}_images")] for name, ids in of.items()}
    ids = {example.image_id for example in scored}
    return Seen(trained_on=len(ids.intersection(of["train"])), chose_epoch=len(ids.intersection(of["validation"])))


def caption_images(captioner: Captioner, source: FromStore, ids: Sequence[str]) -> Iterator[tuple[str, Row | None]]:
    """Rows by image id from features in a store; None where the search found nothing."""
    from pipelines.features.sources import boxes_of

    for start in range(0, len(ids), BATCH):
        table = source.snapshot.take(ids[start : start + BATCH], ["image_id", "uri", *source.columns])
        captions = captioner(of_column(table[source.output]), boxes_of(table))
        for image, caption in zip(table.select(["image_id", "uri"]).to_pylist(), captions, strict=True):
            yield image["image_id"], as_row(image | caption, source.shape[:-1]) if caption else None


def from_output(out: str, data: str | None, split: str, fingerprint: str | None) -> Results:
    """Captions of a split that ``rnncond caption`` wrote.

    Raises:
        UserError: there are none in ``out``, or the captions of people are not of its images.
    """
    if data is None:
        raise UserError("Say --data FILE: the captions of people to score against.")
    dataset = open_output(out, CAPTIONS, fingerprint)
    snapshot = dataset.snapshot()
    failures = failures_of(snapshot, CAPTIONS)
    check_written(snapshot, failures, out, CAPTIONS)
    everyone, stored = read_captions(data), ids_of(snapshot)
    matches = match_captions(of_split(everyone, split, data), stored)
    rows = take(dataset, snapshot, [example.image_id for example in matches], COLUMNS)
    about = Evaluation(set=dataset.fingerprint, data=data, split=split, captions=out)
    about["not_scored"] = {"captions_outside_split": len(matches.without_captions)}
    return Results(
        CAPTIONS,
        [with_references(row, example) for row, example in zip(rows, matches, strict=True)],
        [f"{name}: {failures.get(name, f'no caption in {out}')}" for name in matches.without_image],
        {**about_output(dataset.recipe), **about},
        lambda ids: take(dataset, snapshot, list(ids), snapshot.schema.names),
        seen=seen_by_models(
            dataset,
            lambda section: seen_of(
                section, matches.examples, stored, everyone if data == section.get("captions") else None
            ),
        ),
    )


def from_file(hypotheses: str, data: str | None, split: str | None, partial: bool = False) -> Results:
    """Captions of a file, as they are.

    Args:
        partial: score the images that have both captions and references, and only name the others.

    Raises:
        UserError: some image of the split has no caption, or some caption no reference, and ``partial`` is not asked.
    """
    if data is None:
        raise UserError("Say --references FILE: the captions of people to score against.")
    captions = read_hypotheses(hypotheses)
    examples = read_captions(data)
    if split:
        examples = of_split(examples, split, data)
    matches = match_captions(examples, captions)
    shared = f" Names that fit several images: {naming(matches.ambiguous)}." if matches.ambiguous else ""
    if matches.without_image:
        reason = (
            f"{naming(matches.without_image, 'image')} of {len(examples):,} with references in {data} have no caption "
            f"in {hypotheses}.{shared}"
        )
        if not partial:
            hint = "" if split else " If the captions are of one split only, say --split."
            raise UserError(f"{reason}{hint} To score the others alone, say --partial.")
        tell(f"{reason} The others are scored.")
    if matches.without_captions:
        reason = (
            f"{naming(matches.without_captions, 'caption')} of {len(captions):,} in {hypotheses} are of images without "
            f"references in {data}."
        )
        if not partial and not split:
            raise UserError(f"{reason} To score the others alone, say --partial.")
        tell(f"{reason} They are not scored.")
    rows = [with_references({"image_id": e.image_id, "caption": captions[e.image_id]}, e) for e in matches]
    about: Evaluation = {"hypotheses": hypotheses, "data": data, "split": split}
    if partial:
        about["not_scored"] = {
            "references_without_caption": len(matches.without_image),
            "captions_without_references": len(matches.without_captions),
        }
    return Results(CAPTIONS, rows, about=about)


def evaluate(results: Results, tokenizer: str | None, shuffled: bool) -> Evaluation:
    """Score captions; rows get their own scores.

    Args:
        tokenizer: None for that of the model's language, or auto.
        shuffled: also score each image with the captions of others.
    """
    if tokenizer is None:
        tokenizer = tokenizer_for(results.target_language)
    hypotheses = {row["image_id"]: row["caption"] for row in results.rows}
    references = {row["image_id"]: row["references"] for row in results.rows}
    scores = score(hypotheses, references, tokenizer)
    for row in results.rows:
        row["scores"] = {name: round(value, 2) for name, value in scores.per_image[row["image_id"]].items()}
    evaluation: Evaluation = {
        **results.about,
        "images": len(hypotheses),
        "missing": results.missing,
        "scores": scores.corpus,
        "brevity_penalty": scores.brevity_penalty,
        "without_brevity_penalty": scores.without_brevity_penalty,
        "tokenizer": scores.tokenizer,
        "comparability": scores.comparability,
        "left_out": scores.left_out,
    }
    if results.seen:
        evaluation["seen"] = results.seen
    if shuffled:
        others = shuffled_cider(hypotheses, references, tokenizer)
        ratio = scores.corpus["CIDEr"] / others if others else None
        evaluation["shuffled"] = {"CIDEr": others, "ratio": ratio}
    return evaluation


def tokenizer_for(language: str | None) -> str:
    """The tokenizer of captions in a language: sacrebleu's where neither Java's nor ours can cut words."""
    from pipelines.config.metrics import tokenizer_of

    fitting = tokenizer_of(language)
    return "auto" if fitting == "13a" else fitting


def with_references(row: Row, example: Captioned) -> Row:
    return {**row, "file": example.file, "references": list(example.captions)}


def take(dataset: Dataset, snapshot: Snapshot, ids: list[str], columns: Sequence[str]) -> Iterator[Row]:
    """Rows of some ids, in their order."""
    for values in snapshot.take(ids, columns).to_pylist():
        yield as_row(values, dataset.recipe["places"])


def as_row(values: Mapping[str, Any], grid: Sequence[int]) -> Row:
    """A row from the columns of ``rnncond caption``, with attention where there is a grid or there are boxes to show it
    on.

    Args:
        grid: (rows, columns), else anything of another length.
    """
    row = Row(
        image_id=values["image_id"],
        uri=values["uri"],
        caption=values["caption"],
        log_prob=values["log_prob"],
        others=[other["caption"] for other in values["nbest"][1:]],
    )
    if values.get("attention") is None:
        return row
    if values.get("boxes") is not None:
        place: RowAttention = {"boxes": np.asarray(values["boxes"], np.float64).round(1).tolist()}
    elif len(grid) == 2:
        place = {"rows": grid[0], "columns": grid[1]}
    else:
        return row
    row["attention"] = {**place, "pieces": values["pieces"], "weights": rounded(values["attention"], DECIMALS)}
    return row


def of_split(examples: list[Captioned], split: str, data: str) -> list[Captioned]:
    """The examples of one split. Raises UserError where there are none."""
    chosen = [example for example in examples if example.split == split]
    if not chosen:
        counts = Counter(e.split for e in examples)
        there = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
        held_out = min(counts, key=lambda name: (name == "train", counts[name]))  # most train on most
        raise UserError(
            f"{data} has no images of the split {split!r}; it has {there}. Say --split {held_out}, for example."
        )
    return chosen
