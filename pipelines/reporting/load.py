"""The data of a report: what a run, an evaluation or a verb that decodes left in OUT."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Dataset, Snapshot, Store
from pipelines.config.dotted import from_here
from pipelines.errors import UserError
from pipelines.evaluation import caption_results, results, translation_results
from pipelines.evaluation.differences import KINDS
from pipelines.evaluation.output import ROWS, SUMMARY
from pipelines.evaluation.results import TRANSLATIONS, Row
from pipelines.files.jsonl import read_lines
from pipelines.inputs.entries import naming
from pipelines.tracking.models import MODELS
from rnncond.checkpoint import DESCRIPTION

LOOKED_FOR = 5000
"""Pictures of a set whose files are looked for at most: on a network file system each takes milliseconds."""
STAGES = 5
"""Epochs of which samples are shown."""


@dataclass
class ReportData:
    """What OUT has; anything may be missing. ``total`` counts the captions or translations of which ``rows`` are some
    or all; ``gone`` says how many, and which, pictures are no longer where they were; ``outdated`` says that the scores
    are not of what OUT has now, and is empty where they are; ``again`` is the command that scores a set anew, empty of
    a run."""

    out: str
    total: int = 0
    evaluation: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    recipe: str = ""
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    gone: str = ""
    outdated: str = ""
    again: str = ""
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        """Whether this is of translations, not of captions."""
        return any(
            row.keys() & {"translation", "chrF"} for row in [*self.rows[:1], *self.samples[:1], *self.metrics[:1]]
        )


def read(out: str, count: int, fingerprint: str | None = None) -> ReportData:
    """Everything in OUT that the page shows; of what was not scored, ``count`` rows spread over all.

    Raises:
        UserError: there is nothing to show, or a file is not as it was written.
    """
    content = ReportData(out)
    folder = Path(out)
    try:
        content.evaluation, content.run = read_object(folder / SUMMARY), read_object(folder / "run.json")
        content.rows = read_objects(folder / ROWS)
        content.metrics, content.samples = (
            read_objects(folder / "metrics.jsonl"),
            read_objects(folder / "samples.jsonl"),
        )
        content.recipe = (
            (folder / "recipe.yaml").read_text(encoding="utf-8") if (folder / "recipe.yaml").exists() else ""
        )
    except (ValueError, OSError) as error:
        raise UserError(f"{out} has a damaged file: {error}. Run the verb that wrote it again.") from None
    if is_outdated(content.evaluation, folder):
        content.outdated = "These scores and sentences are of the model before the last training."
        content.remarks.append(f"{content.outdated} `rnncond evaluate --model` scores the model that the run has now.")
    leave_out_others(content, fingerprint)
    content.failures, content.total = list(content.evaluation.get("missing", [])), len(content.rows)
    if not content.rows:
        read_output(content, count, fingerprint)
    if not (content.rows or content.metrics):
        raise UserError(
            f"{out} has nothing to show: no run of `rnncond train`, no results of `rnncond evaluate`, and no output of "
            "`rnncond caption` or `rnncond translate`."
        )
    return content


def set_of(out: str, fingerprint: str | None) -> Dataset | None:
    """The set of captions or translations in OUT that is shown; None where OUT is no store of such."""
    kinds = results.output_kinds(out)
    return Store(out).open(fingerprint, kind=kinds[0].name if len(kinds) == 1 else None) if kinds else None


def is_outdated(evaluation: dict[str, Any], run: Path) -> bool:
    """Whether an evaluation in the folder of a run is of another model than those that the run has now: it was trained
    again, or further, since. An evaluation or a model without an id is not judged."""
    scored = evaluation.get("model", {}).get("id")
    # A model of history/ is evaluated by its own path; that it is still there does not make it the run's best.
    named = Path(evaluation.get("model", {}).get("folder", ""))
    models = [*MODELS, *([f"history/{named.name}"] if named.parent.name == "history" else [])]
    present = {read_object(run / model / DESCRIPTION).get("model_id") for model in models} - {None}
    return bool(scored and present and scored not in present)


def leave_out_others(content: ReportData, fingerprint: str | None) -> None:
    """Leave out an evaluation of another set than the one that is shown, whose scores are of another model, and one of
    other rows than the set has now."""
    scored = content.evaluation
    dataset = set_of(content.out, fingerprint) if scored.keys() & {"captions", "translations"} else None
    if dataset is None:
        return
    # Versions before 0.3 kept the model alone.
    same = scored["set"] == dataset.fingerprint if "set" in scored else scored["model"]["id"] == dataset.recipe["model"]
    if not same:
        reason = f"The scores in {SUMMARY} are of another set, {scored.get('set', scored['model']['id'])}"
    elif content.rows and has_changed(content, dataset):
        reason = f"The scores in {SUMMARY} are of set {dataset.fingerprint} as it was before its rows changed"
    else:
        return
    content.outdated, content.again = f"{reason}, and are left out.", command_of(content, dataset.kind, fingerprint)
    content.evaluation, content.rows = {}, []
    content.remarks.append(f"{reason}, and are left out; `{content.again}` scores this one.")


def command_of(content: ReportData, kind: str, fingerprint: str | None) -> str:
    """The command that scores the set that is shown as another one, or it before, was scored."""
    scored = content.evaluation
    again = ["rnncond", "evaluate", f"--{kind}", str(content.out)]
    again += [] if fingerprint is None else ["--set", fingerprint]
    again += ["--data", from_here(scored["data"])] if "data" in scored else []
    again += ["--split", scored["split"]] if scored.get("split") else []
    again += [word for path in scored.get("references", []) for word in ("--references", from_here(path))]
    return shlex.join(again)


def has_changed(content: ReportData, dataset: Dataset) -> bool:
    """Whether rows were added to the set since its evaluation, removed from it, or made again with another text or of
    another sentence. Holds what was scored, and of the set a row group at a time."""
    kind, snapshot = KINDS[dataset.kind], dataset.snapshot()
    # A sentence whose translation failed is scored as an empty one, and has no row.
    rows = cast(list[dict[str, Any]], content.rows)
    scored = {kind.id_of(row): row for row in rows if row[kind.text_key] or row.get("log_prob") is not None}
    others = content.evaluation.get("not_scored", {} if kind is TRANSLATIONS else None)
    if others is not None and snapshot.rows != len(scored) + sum(others.values()):
        return True  # Of captions, versions before 0.3 did not count those outside the split.
    compared = [kind.text_key, *(["source"] if kind is TRANSLATIONS else [])]
    ids, found = pa.array(scored, pa.string()), 0
    for batch in snapshot.scan([kind.id_key, *compared]):
        for row in batch.filter(pc.is_in(batch[kind.id_key], value_set=ids)).to_pylist():
            before = scored[row[kind.id_key]]
            if any(before.get(name, row[name]) != row[name] for name in compared):
                return True
            found += 1
    return found != len(scored)


def read_output(content: ReportData, count: int, fingerprint: str | None) -> None:
    """Rows of a store with captions or translations, if OUT is one."""
    dataset = set_of(content.out, fingerprint)
    if dataset is None:
        return
    snapshot = dataset.snapshot()
    rows = results.spread(dataset, count)
    if dataset.kind == results.TRANSLATIONS.name:
        content.rows = [translation_results.as_row(row) for row in rows]
    else:
        content.rows = [caption_results.as_row(row, dataset.recipe["places"]) for row in rows]
    unit = results.TRANSLATIONS.unit if dataset.kind == results.TRANSLATIONS.name else results.CAPTIONS.unit
    content.evaluation = {**results.about_output(dataset.recipe), "set": dataset.fingerprint, unit: snapshot.rows}
    content.total = snapshot.rows
    if dataset.kind == results.CAPTIONS.name and (gone := gone_pictures(snapshot)):
        content.gone = gone
        content.remarks.append(
            f"Pictures that are no longer where they were read, removed since, or moved: {gone}. "
            f"`rnncond store certify {content.out} --of IMAGES` lists them, with the folder or listing that was "
            "captioned in place of IMAGES."
        )
    failures = snapshot.failures().to_pylist()
    content.failures = [f"{row[dataset.id_column]}: {row['stage']}: {row['reason']}" for row in failures]


def gone_pictures(snapshot: Snapshot) -> str | None:
    """How many rows are of a local file that is gone, and some of these, in words; None where none is. At most
    ``LOOKED_FOR`` are looked for, evenly spread over all. Of object storage and of members it is not asked."""
    stride = max(math.ceil(snapshot.rows / LOOKED_FOR), 1)
    looked, gone, before = 0, list[str](), 0
    for table in snapshot.iter_columns(["uri"]):
        for uri in table["uri"][-before % stride :].to_pylist()[::stride]:
            if "://" not in uri:
                looked += 1
                gone += [] if os.path.exists(uri) else [from_here(uri)]
        before += table.num_rows
    if not gone:
        return None
    of = "" if stride == 1 else f" of {looked:,} that were looked for"
    return f"{naming(gone)}{of}"


def read_object(path: Path) -> dict[str, Any]:
    return of_objects([json.loads(path.read_text(encoding="utf-8"))], path)[0] if path.exists() else {}


def read_objects(path: Path) -> list[Any]:
    return of_objects(read_lines(path), path)


def of_objects(values: list[Any], path: Path) -> list[Any]:
    """``values`` themselves; ValueError where any of them is no JSON object."""
    for value in values:
        if not isinstance(value, dict):
            raise ValueError(f"{path.name} has {json.dumps(value)[:60]}, expected a JSON object")
    return values


def by_epoch(samples: Iterable[Mapping[str, Any]], id_key: str, text_key: str) -> dict[str, list[tuple[int, str]]]:
    """The text of each example after a few epochs, from the first to the last; nothing where there is one epoch alone.

    Args:
        id_key, text_key: keys of the example's id and of its caption or translation.
    """
    samples = list(samples)
    epochs = sorted({sample["epoch"] for sample in samples})
    if len(epochs) < 2:
        return {}
    chosen = {epochs[round(place)] for place in np.linspace(0, len(epochs) - 1, STAGES)}
    stages: dict[str, list[tuple[int, str]]] = {}
    for sample in samples:
        if sample["epoch"] in chosen:
            stages.setdefault(sample[id_key], []).append((sample["epoch"], sample[text_key]))
    return stages
