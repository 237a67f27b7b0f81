"""What ``rnncond report`` finds in OUT: of a run, of an evaluation, or of what a verb that decodes wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from feature_store import Store
from pipelines.errors import UserError
from pipelines.evaluation import caption_results, results, translation_results
from pipelines.evaluation.output import ROWS, SUMMARY
from pipelines.files.jsonl import read_lines

STAGES = 5
"""Epochs of which samples are shown."""


@dataclass
class Found:
    """What OUT has; anything may be missing. ``total`` counts the captions or translations of which ``rows`` are some
    or all."""

    out: str
    total: int = 0
    evaluation: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    recipe: str = ""
    failures: list[str] = field(default_factory=list)

    @property
    def is_text(self) -> bool:
        """Whether this is of translations, not of captions."""
        return any(
            row.keys() & {"translation", "chrF"} for row in [*self.rows[:1], *self.samples[:1], *self.metrics[:1]]
        )


def read(out: str, count: int, fingerprint: str | None = None) -> Found:
    """Everything in OUT that the page shows; of what was not scored, ``count`` rows spread over all.

    Raises:
        UserError: there is nothing to show, or a file is not as it was written.
    """
    found = Found(out)
    folder = Path(out)
    try:
        found.evaluation, found.run = read_object(folder / SUMMARY), read_object(folder / "run.json")
        found.rows = read_objects(folder / ROWS)
        found.metrics, found.samples = read_objects(folder / "metrics.jsonl"), read_objects(folder / "samples.jsonl")
        found.recipe = (folder / "recipe.yaml").read_text(encoding="utf-8") if (folder / "recipe.yaml").exists() else ""
    except (ValueError, OSError) as error:
        raise UserError(f"{out} has a damaged file: {error}. Run the verb that wrote it again.") from None
    found.failures, found.total = list(found.evaluation.get("missing", [])), len(found.rows)
    if not found.rows:
        read_output(found, count, fingerprint)
    if not (found.rows or found.metrics):
        raise UserError(
            f"{out} has nothing to show: no run of `rnncond train`, no results of `rnncond evaluate`, and no output of "
            "`rnncond caption` or `rnncond translate`."
        )
    return found


def read_output(found: Found, count: int, fingerprint: str | None) -> None:
    """Rows of a store with captions or translations, if OUT is one."""
    kinds = results.output_kinds(found.out)
    if not kinds:
        return
    dataset = Store(found.out).open(fingerprint, kind=kinds[0].name if len(kinds) == 1 else None)
    snapshot = dataset.snapshot()
    rows = results.spread(dataset, count)
    if dataset.kind == results.TRANSLATIONS.name:
        found.rows = [translation_results.as_row(row) for row in rows]
    else:
        found.rows = [caption_results.as_row(row, dataset.recipe["places"]) for row in rows]
    unit = results.TRANSLATIONS.unit if dataset.kind == results.TRANSLATIONS.name else results.CAPTIONS.unit
    found.evaluation = results.about_output(dataset.recipe) | {unit: snapshot.rows}
    found.total = snapshot.rows
    failures = snapshot.failures().to_pylist()
    found.failures = [f"{row[dataset.id_column]}: {row['stage']}: {row['reason']}" for row in failures]


def read_object(path: Path) -> dict[str, Any]:
    return of_objects([json.loads(path.read_text(encoding="utf-8"))], path)[0] if path.exists() else {}


def read_objects(path: Path) -> list[dict[str, Any]]:
    return of_objects(read_lines(path), path)


def of_objects(found: list[Any], path: Path) -> list[dict[str, Any]]:
    """``found`` itself; ValueError where anything in it is no JSON object."""
    for value in found:
        if not isinstance(value, dict):
            raise ValueError(f"{path.name} has {json.dumps(value)[:60]}, expected a JSON object")
    return found


def by_epoch(samples: Iterable[Mapping[str, Any]], name: str, said: str) -> dict[str, list[tuple[int, str]]]:
    """What was said of each example at a few epochs, from the first to the last; nothing of a single epoch.

    Args:
        name, said: keys of the example's id and of what was said of it.
    """
    samples = list(samples)
    epochs = sorted({sample["epoch"] for sample in samples})
    if len(epochs) < 2:
        return {}
    chosen = {epochs[round(place)] for place in np.linspace(0, len(epochs) - 1, STAGES)}
    stages: dict[str, list[tuple[int, str]]] = {}
    for sample in samples:
        if sample["epoch"] in chosen:
            stages.setdefault(sample[name], []).append((sample["epoch"], sample[said]))
    return stages
