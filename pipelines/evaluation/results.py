"""What is scored or shown, wherever it comes from: made here by a model, by a verb that decodes, or by another program.

A caption or a translation is a row, an object of evaluated.jsonl.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict, cast

import numpy as np

from feature_store import Dataset, Snapshot, Store
from pipelines.errors import UserError


class RowAttention(TypedDict, total=False):
    """Where each piece of a text looked: over the ``rows`` and ``columns`` of a grid, the ``boxes`` of regions (x1, y1,
    x2, y2 in pixels) or the ``source_pieces`` of a sentence.

    ``weights`` are pieces x places, row-major of a grid.
    """

    pieces: list[str]
    weights: list[list[float]]
    rows: int
    columns: int
    boxes: list[list[float]]
    source_pieces: list[str]


class Row(TypedDict, total=False):
    """A caption has ``image_id`` and ``caption``, a translation ``id`` and ``translation``; the rest where it is known.

    ``others`` are the next best, ``file`` is the picture as the captions of people name it.
    """

    image_id: str
    caption: str
    uri: str
    file: str
    id: str
    translation: str
    source: str
    log_prob: float | None
    others: list[str]
    references: list[str]
    scores: dict[str, float]
    attention: RowAttention


class Seen(TypedDict):
    """How many of what is scored the model was ``trained_on``, and how many were validated on: they ``chose_epoch``."""

    trained_on: int
    chose_epoch: int


class Evaluation(TypedDict, total=False):
    """The keys of evaluation.json, which are there where they are known; version 0.1.0 wrote ``tokeniser``.

    What was scored: ``model``, ``search``, ``features`` and ``data``, ``split``, ``captions`` of captions, ``source``,
    ``references``, ``translations`` of translations, or ``hypotheses``; ``set`` is that of a store. How:
    ``tokenizer``, ``lowercase``, ``signatures``, ``comparability``. ``scores`` are of the whole set;
    ``without_brevity_penalty`` has BLEU before it is multiplied by ``brevity_penalty``; ``length_ratio`` is that of
    translations to references. ``not_scored`` counts what else there was, ``seen`` what the training of the model has
    seen of what is scored, ``stale`` the translations of sentences that the table of references has otherwise by now.
    """

    kind: str
    set: str
    model: dict[str, str]
    search: dict[str, Any]
    features: dict[str, Any]
    data: str
    split: str | None
    captions: str
    translations: str
    hypotheses: str
    source: str
    references: list[str]
    corpus: str
    max_source_length: int
    too_long: str
    unk_replace: bool
    images: int
    sentences: int
    cut: int
    missing: list[str]
    not_scored: dict[str, int]
    stale: int
    scores: dict[str, float]
    brevity_penalty: float
    length_ratio: float
    without_brevity_penalty: dict[str, float]
    bleu: str
    signatures: dict[str, str]
    tokenizer: str
    tokeniser: str
    lowercase: bool
    comparability: str
    left_out: dict[str, str]
    shuffled: dict[str, float | None]
    seen: Seen


class Kind(NamedTuple):
    """``name`` of the sets that ``verb`` writes, the keys of a row's id and text, what is counted, and the score that
    rows are ranked by."""

    name: str
    verb: str
    id_key: str
    text_key: str
    unit: str
    ranked_by: str

    def id_of(self, row: Mapping[str, Any]) -> str:
        return str(row[self.id_key])


CAPTIONS = Kind("captions", "caption", "image_id", "caption", "images", "CIDEr")
TRANSLATIONS = Kind("translations", "translate", "id", "translation", "sentences", "chrF")
"""Of single sentences BLEU is often 0, so chrF ranks them."""


@dataclass
class Results:
    """Captions or translations to be scored.

    Attributes:
        rows: with references; a sentence that has no translation has an empty one.
        missing: what has references and no text, with the reason.
        about: where all this came from; goes into evaluation.json.
        attend: gives rows of some ids again, with attention; None where there is none.
        lowercase: whether the model writes lower case; None where that is not known.
        target_language: as the model's recipe has it.
        seen: how many rows the model's training has seen, see ``Seen``; None where that is not known.
    """

    kind: Kind
    rows: list[Row]
    missing: list[str] = field(default_factory=list)
    about: Evaluation = field(default_factory=lambda: Evaluation())
    attend: Callable[[Sequence[str]], Iterable[Row]] | None = None
    lowercase: bool | None = None
    target_language: str | None = None
    seen: Seen | None = None


def output_kinds(out: str) -> list[Kind]:
    """What verbs that decode wrote to this folder: captions, translations, both, or none."""
    names = {dataset.kind for dataset in Store(out).datasets()}
    return [kind for kind in (CAPTIONS, TRANSLATIONS) if kind.name in names]


def open_output(out: str, kind: Kind, fingerprint: str | None = None) -> Dataset:
    """The set that ``rnncond caption`` or ``rnncond translate`` wrote.

    Raises:
        UserError: there is none in ``out``.
    """
    if kind not in output_kinds(out):
        raise UserError(f"{out} is no output of `rnncond {kind.verb}`: a store with {kind.name} was expected there.")
    return Store(out).open(fingerprint, kind=kind.name)


def about_output(recipe: Mapping[str, Any]) -> Evaluation:
    """What the recipe of a set says of its captions or translations."""
    from pipelines.inference.decoder import unusual

    about = {"model": {"id": recipe["model"], "system": recipe["system"]}, "search": unusual(recipe["search"])}
    copied = ("features", "corpus", "max_source_length", "too_long", "unk_replace")
    return cast(Evaluation, about | {key: recipe[key] for key in copied if key in recipe})


def seen_by_models(dataset: Dataset, seen_of: Callable[[Mapping[str, Any]], Seen | None]) -> Seen | None:
    """What the training of the models of a set has seen of what is scored; of several models, the most that one has.
    None where the set does not say: versions before 0.3 did not note it.

    Args:
        seen_of: by the section ``data`` of a model's training.
    """
    sections = json.loads(dataset.about.get("trained_on", "[]"))
    known = [seen for section in sections if (seen := seen_of(section))]
    if not known:
        return None
    return Seen(
        trained_on=max(seen["trained_on"] for seen in known), chose_epoch=max(seen["chose_epoch"] for seen in known)
    )


def failures_of(snapshot: Snapshot, kind: Kind) -> dict[str, str]:
    """The reason of each failure by id."""
    return {row[kind.id_key]: row["reason"] for row in snapshot.failures().to_pylist()}


def check_written(snapshot: Snapshot, failures: Mapping[str, str], out: str, kind: Kind) -> None:
    """Refuse an output in which there is nothing to score.

    Raises:
        UserError: all of it failed, for the reason of the first, or nothing was written yet.
    """
    if snapshot.rows:
        return
    why = f"`rnncond {kind.verb}` has written none yet"
    if failures:
        name, reason = min(failures.items())
        why = f"all {len(failures):,} {kind.unit} failed ({name}: {reason}), which --retry-failed tries again"
    raise UserError(f"{out} has no {kind.name} to score: {why}.")


def ids_of(snapshot: Snapshot) -> list[str]:
    return snapshot.ids(include_failures=False).to_pylist()


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


def rounded(attention: Any, decimals: int) -> list[list[float]]:
    """Weights as they are written: pieces x places."""
    rows = [np.asarray(row, np.float64).ravel() for row in attention]
    return np.asarray(rows).round(decimals).tolist()
