"""Two sets of a store with what an older and a newer model say of the same inputs: what changed between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Dataset, Store
from pipelines.errors import UserError
from pipelines.evaluation.results import CAPTIONS, TRANSLATIONS, Kind

KINDS = {kind.name: kind for kind in (CAPTIONS, TRANSLATIONS)}
INPUTS = ("uri", "version", "source")
"""Columns that say what a row is of: a picture's address and version, a sentence."""
OTHER_INPUT = "input changed"
"""The change of a row that is of an edited sentence, or of another version of a picture: what two models say of it says
nothing of the models."""
CHANGES = ("changed", "added", "removed", OTHER_INPUT)


@dataclass(frozen=True)
class Difference:
    """Two sets of one kind, compared.

    Attributes:
        changed: a row for each input whose text differs, that only one of the sets has, or that is another in the two,
            by id: ``id``, ``uri`` of captions or ``source`` and ``source_before`` of translations, ``change`` (one of
            ``CHANGES``), ``before``, ``after``, ``score_before``, ``score_after``; null where a set has none.
        same: inputs of which both say the same.
        moves: scores after less scores before, of inputs that both have and that are the same in both.
    """

    before: Dataset
    after: Dataset
    changed: pa.Table
    same: int
    moves: np.ndarray

    @property
    def kind(self) -> Kind:
        return KINDS[self.after.kind]

    def counts(self) -> dict[str, Any]:
        """The numbers, by the names that a verb shows."""
        kinds = self.changed["change"].to_pylist()
        numbers: dict[str, Any] = {"same": self.same}
        numbers |= {change.replace(" ", "_"): kinds.count(change) for change in CHANGES}
        if len(self.moves):
            low, middle, high = np.quantile(self.moves, (0.05, 0.5, 0.95))
            numbers["mean_score_move"] = float(self.moves.mean())
            numbers["score_moves"] = f"{low:+.3f} / {middle:+.3f} / {high:+.3f} (5%, median, 95%)"
        return numbers


def refuse_itself(found: Difference) -> None:
    """Raises UserError where a set is compared with itself, which says nothing."""
    if found.before.fingerprint == found.after.fingerprint:
        store, kind = found.after.store, found.after.kind
        others = [
            one.fingerprint
            for one in store.datasets()
            if one.kind == kind and one.fingerprint != found.after.fingerprint
        ]
        there = f"also has {', '.join(others)}" if others else "has no other"
        raise UserError(
            f"Both sets are {found.after.fingerprint}, which does not differ from itself. Name another set of {kind}: "
            f"{store.files.shown} {there}."
        )


def difference(store: Store, before: str, after: str) -> Difference:
    """Compare the sets ``before`` and ``after``, named by fingerprints, their beginnings, or ``current``. Holds ids,
    texts and scores of both, some 200 bytes a row.

    Raises:
        StoreError: there is no such set.
        UserError: the two are not both of captions, or both of translations.
    """
    one, other = store.open(before), store.open(after)
    if one.kind != other.kind or one.kind not in KINDS:
        raise UserError(
            f"Captions are compared with captions, and translations with translations; {one.fingerprint} has "
            f"{one.kind}, {other.fingerprint} has {other.kind}."
        )
    kind = KINDS[one.kind]
    joined = texts(one, kind, "before").join(texts(other, kind, "after"), keys=kind.id_key, join_type="full outer")
    both = pc.and_(pc.is_valid(joined["before"]), pc.is_valid(joined["after"]))
    edited = pc.and_(both, other_input(joined, "source" if kind is TRANSLATIONS else "version"))
    equal = pc.and_not(pc.fill_null(pc.equal(joined["before"], joined["after"]), False), edited)
    change = pc.if_else(both, "changed", pc.if_else(pc.is_valid(joined["after"]), "added", "removed"))
    joined = joined.append_column("change", pc.if_else(edited, OTHER_INPUT, change))
    comparable = joined.filter(pc.and_not(both, edited))
    moves = pc.subtract(comparable["score_after"], comparable["score_before"]).to_numpy()
    changed = changed_rows(joined.filter(pc.invert(equal)), kind)
    return Difference(one, other, changed, pc.sum(equal).as_py() or 0, moves)


def changed_rows(joined: pa.Table, kind: Kind) -> pa.Table:
    """The columns of ``Difference.changed``, by id."""
    columns: dict[str, Any] = {"id": joined[kind.id_key]}
    for name in ("uri", "source"):
        if {f"{name}_after", f"{name}_before"} <= {*joined.column_names}:
            columns[name] = pc.coalesce(joined[f"{name}_after"], joined[f"{name}_before"])
    shown = ("source_before", "change", "before", "after", "score_before", "score_after")
    columns |= {name: joined[name] for name in shown if name in joined.column_names}
    return pa.table(columns).sort_by("id")


def other_input(joined: pa.Table, name: str) -> pa.ChunkedArray:
    """Of each row whether both sets say what it is of, in the column ``name``, and say it otherwise."""
    if not {f"{name}_before", f"{name}_after"} <= {*joined.column_names}:
        return pa.chunked_array([pa.repeat(False, joined.num_rows)])
    return pc.fill_null(pc.not_equal(joined[f"{name}_before"], joined[f"{name}_after"]), False)


def texts(dataset: Dataset, kind: Kind, name: str) -> pa.Table:
    """Id, text and score of each row, and what it is of where rows have that."""
    inputs = [column for column in INPUTS if column in dataset.schema.names]
    columns = [kind.id_key, kind.text_key, "score", *inputs]
    names = [kind.id_key, name, f"score_{name}", *(f"{column}_{name}" for column in inputs)]
    schema = pa.schema([dataset.schema.field(column) for column in columns])
    table = pa.Table.from_batches(dataset.snapshot().scan(columns), schema)
    return table.rename_columns(names)


def examples(found: Difference, count: int) -> list[dict[str, Any]]:
    """Some of what changed, spread evenly over all."""
    total = found.changed.num_rows
    places = np.unique(np.linspace(0, max(total - 1, 0), min(count, total)).round().astype(int))
    rows: list[dict[str, Any]] = found.changed.take(pa.array(places, pa.int64())).to_pylist()
    return rows
