"""What is scored or shown: captions made here from a store, those that ``rnncond caption`` wrote, or those of a file.

Wherever they come from, a caption is a row, an object of evaluated.jsonl: image_id and caption; uri, log_prob and
others (the next best) where they are known; references, and the file as the captions of people name it; scores; and for
some images attention: rows and columns of the grid, or boxes of the regions, the pieces of the caption, and their
weights (pieces x places).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from feature_store import Dataset, Snapshot, Store
from pipelines import console
from pipelines.console import tell
from pipelines.errors import UserError
from pipelines.features.columns import of_column
from pipelines.files.jsonl import from_json
from pipelines.files.text import read_text
from pipelines.inputs.caption_formats import Captioned
from pipelines.inputs.captions import read_captions
from pipelines.inputs.entries import naming, numbered_lines, parse_each, value_of
from pipelines.inputs.matching import match_captions
from rnncond.checkpoint import Trained

BATCH = 64
DECIMALS = 5
PLAIN = ("image_id", "uri", "caption", "log_prob", "nbest")
"""Columns of captions but for the large ones, pieces and attention."""


@dataclass
class Captions:
    """What is to be scored.

    Attributes:
        rows: with references.
        missing: images with references that have no caption, with the reason.
        about: where all this came from; goes into evaluation.json.
        attend: rows of some images again, with attention.
    """

    rows: list[dict[str, Any]]
    missing: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    attend: Callable[[Sequence[str]], Iterable[dict[str, Any]]] | None = None


def from_model(trained: Trained, model: str, data: str | None, store: str | None, split: str, beam: int) -> Captions:
    """Caption a split from the features in a store, in this process."""
    from pipelines.features.sources import FromStore
    from pipelines.inference.decoder import search_options, unusual

    trained_on = trained.info.get("recipe", {}).get("data", {})
    store, data = store or trained_on.get("store"), data or trained_on.get("captions")
    if not store or not data:
        raise UserError(f"The model {model} does not say what it was trained with; say --store and --data.")
    source = FromStore.open(store, trained.features)
    joined = match_captions(of_split(read_captions(data), split, data), ids_of(source.snapshot))
    options = search_options(trained, beam=beam, nbest=min(3, beam))

    found = Captions([], [f"{name}: no features in {store}" for name in joined.without_image])
    with console.Progress("captions", "images", len(joined.examples)) as progress:
        for start in range(0, len(joined.examples), BATCH):
            examples = joined.examples[start : start + BATCH]
            rows = dict(describe(trained, source, options, [example.image_id for example in examples]))
            silent = [image_id for image_id, row in rows.items() if row is None]
            found.missing += [
                f"{image_id}: the search found no caption: its rules leave nothing to say" for image_id in silent
            ]
            found.rows += [with_references(rows[e.image_id], e) for e in examples if rows[e.image_id]]
            progress.advance(len(examples), failed=len(silent))
    found.about = {
        "model": {"id": trained.model_id, "system": trained.system, "folder": model},
        "features": trained.features,
        "search": unusual(dataclasses.asdict(options)),
        "data": data,
        "split": split,
    }
    attending = dataclasses.replace(options, attention=True)
    found.attend = lambda ids: (row for _, row in describe(trained, source, attending, ids) if row)
    return found


def describe(trained: Trained, source, options, ids: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Rows by image id from features in a store; None where the search found nothing."""
    from pipelines.features.sources import boxes_of
    from pipelines.inference.captioner import Captioner

    captioner = Captioner([trained], options).to(str(next(trained.model.parameters()).device))
    for start in range(0, len(ids), BATCH):
        table = source.snapshot.take(ids[start : start + BATCH], ["image_id", "uri", *source.columns])
        said = captioner(of_column(table[source.output]), boxes_of(table))
        for image, row in zip(table.select(["image_id", "uri"]).to_pylist(), said, strict=True):
            yield image["image_id"], row and as_row(image | row, source.shape[:-1])


def from_output(out: str, data: str | None, split: str, fingerprint: str | None) -> Captions:
    """Captions of a split that ``rnncond caption`` wrote."""
    if data is None:
        raise UserError("Say --data FILE: the captions of people to score against.")
    dataset = open_output(out, fingerprint)
    snapshot = dataset.snapshot()
    joined = match_captions(of_split(read_captions(data), split, data), ids_of(snapshot))
    failed = {row["image_id"]: row["reason"] for row in snapshot.failures().to_pylist()}
    rows = take(dataset, snapshot, [example.image_id for example in joined], PLAIN)
    return Captions(
        [with_references(row, example) for row, example in zip(rows, joined, strict=True)],
        [f"{name}: {failed.get(name, f'no caption in {out}')}" for name in joined.without_image],
        about_output(dataset) | {"data": data, "split": split, "captions": out},
        lambda ids: take(dataset, snapshot, list(ids), snapshot.schema.names),
    )


def with_references(row: dict[str, Any], example: Captioned) -> dict[str, Any]:
    return row | {"file": example.file, "references": list(example.captions)}


VERBS = {"captions": "caption", "translations": "translate"}
"""Of each kind of set, the verb that writes it."""


def output_kinds(out: str) -> list[str]:
    """What verbs that decode wrote to this folder: ``captions``, ``translations``, both, or none."""
    kinds = {dataset.kind for dataset in Store(out).datasets()}
    return [kind for kind in VERBS if kind in kinds]


def open_output(out: str, fingerprint: str | None = None, kind: str = "captions") -> Dataset:
    if kind not in output_kinds(out):
        raise UserError(f"{out} is no output of `rnncond {VERBS[kind]}`: a store with {kind} was expected there.")
    return Store(out).open(fingerprint, kind=kind)


def about_output(dataset: Dataset) -> dict[str, Any]:
    from pipelines.inference.decoder import unusual

    recipe = dataset.recipe
    model = {"id": recipe["model"], "system": recipe["system"]}
    return {"model": model, "features": recipe["features"], "search": unusual(recipe["search"])}


def spread(dataset: Dataset, count: int) -> Iterator[dict[str, Any]]:
    """About ``count`` rows as they are in the set, evenly over all; reads no more row groups, however large it is."""
    snapshot = dataset.snapshot()
    groups = snapshot.row_groups()
    ends = np.cumsum([0] + [group.rows for group in groups])
    places = np.unique(np.linspace(0, ends[-1] - 1, min(count, ends[-1])).round().astype(int))
    owners = np.searchsorted(ends, places, side="right") - 1
    for owner in np.unique(owners):
        batch = snapshot.read_row_group(groups[owner].part, groups[owner].index)
        yield from batch.take((places[owners == owner] - ends[owner]).tolist()).to_pylist()


def take(dataset: Dataset, snapshot: Snapshot, ids: list[str], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in snapshot.take(ids, columns).to_pylist():
        yield as_row(row, dataset.recipe["places"])


def ids_of(snapshot: Snapshot) -> list[str]:
    return snapshot.ids(include_failures=False).to_pylist()


def as_row(said: Mapping[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """A row from the columns of ``rnncond caption``; attention where there is a grid or there are boxes to show it
    on."""
    row = {name: said[name] for name in ("image_id", "uri", "caption", "log_prob")}
    row["others"] = [other["caption"] for other in said["nbest"][1:]]
    if said.get("attention") is None:
        return row
    if said.get("boxes") is not None:
        where = {"boxes": np.asarray(said["boxes"], np.float64).round(1).tolist()}
    elif len(places) == 2:
        where = {"rows": places[0], "columns": places[1]}
    else:
        return row
    weights = np.asarray(said["attention"], np.float64).reshape(len(said["pieces"]), -1)
    row["attention"] = where | {"pieces": said["pieces"], "weights": weights.round(DECIMALS).tolist()}
    return row


def from_file(hypotheses: str, data: str | None, split: str | None, partial: bool = False) -> Captions:
    """Captions of a file, as they are.

    Args:
        partial: score the images that have both captions and references, and only name the others.

    Raises:
        UserError: some image of the split has no caption, or some caption no reference, and ``partial`` is not asked.
    """
    if data is None:
        raise UserError("Say --references FILE: the captions of people to score against.")
    said = read_hypotheses(hypotheses)
    examples = read_captions(data)
    if split:
        examples = of_split(examples, split, data)
    joined = match_captions(examples, said)
    shared = f" Names that fit several images: {naming(joined.ambiguous)}." if joined.ambiguous else ""
    if joined.without_image:
        reason = (
            f"{naming(joined.without_image, 'image')} of {len(examples):,} with references in {data} have no caption "
            f"in {hypotheses}.{shared}"
        )
        if not partial:
            hint = "" if split else " If the captions are of one split only, say --split."
            raise UserError(f"{reason}{hint} To score the others alone, say --partial.")
        tell(f"{reason} The others are scored.")
    if joined.without_captions:
        reason = (
            f"{naming(joined.without_captions, 'caption')} of {len(said):,} in {hypotheses} are of images without "
            f"references in {data}."
        )
        if not partial and not split:
            raise UserError(f"{reason} To score the others alone, say --partial.")
        tell(f"{reason} They are not scored.")
    rows = [with_references({"image_id": e.image_id, "caption": said[e.image_id]}, e) for e in joined]
    about: dict[str, Any] = {"hypotheses": hypotheses, "data": data, "split": split}
    if partial:
        about["not_scored"] = {
            "references_without_caption": len(joined.without_image),
            "captions_without_references": len(joined.without_captions),
        }
    return Captions(rows, about=about)


def read_hypotheses(path: str) -> dict[str, str]:
    """Captions by image id: COCO's results, JSON lines with image_id and caption, or ID<tab>caption lines."""
    text = read_text(path)
    found: dict[str, str] = {}
    for place, image_id, caption in hypothesis_entries(path, text):
        if image_id in found:
            raise UserError(f"{path}: {place} is a second caption of the image {image_id!r}; expected one of each.")
        found[image_id] = caption
    if not found:
        raise UserError(f"{path} has no captions. {HYPOTHESES}")
    return found


HYPOTHESES = (
    'Expected COCO results ([{"image_id": ..., "caption": ...}, ...]), one such object a line, or ID<tab>caption lines.'
)


def hypothesis_entries(path: str, text: str) -> Iterator[tuple[str, str, str]]:
    """Place, image id and caption of every entry."""
    if text.lstrip().startswith("["):
        try:
            entries = [(f"entry {n}", entry) for n, entry in enumerate(from_json(text), 1)]
        except ValueError as error:
            raise UserError(f"{path} cannot be read as JSON: {error}. {HYPOTHESES}") from None
        said = parse_each(path, entries, of_object, HYPOTHESES)
    else:
        entries = numbered_lines(text)
        said = parse_each(path, entries, of_line, HYPOTHESES)
    for (place, _), (image_id, caption) in zip(entries, said, strict=True):
        yield place, image_id, caption


def of_line(line: str) -> tuple[str, str]:
    if line.lstrip().startswith("{"):
        return of_object(from_json(line))
    cells = line.split("\t")
    if len(cells) != 2:
        raise ValueError(f"found {line[:60]!r}, expected ID<tab>caption")
    return cells[0], cells[1]


def of_object(entry: Any) -> tuple[str, str]:
    return str(value_of(entry, "image_id", int | str)), value_of(entry, "caption", str)


def of_split(examples: list[Captioned], split: str, data: str) -> list[Captioned]:
    chosen = [example for example in examples if example.split == split]
    if not chosen:
        there = ", ".join(f"{name} ({count:,})" for name, count in Counter(e.split for e in examples).items())
        raise UserError(f"{data} has no images of the split {split!r}; it has {there}.")
    return chosen
