"""``rnncond report``: one HTML page of a training run, or of captions or translations, which needs no other file and no
network; or of a search (``pipelines.reporting.search``).

OUT is a run's folder (metrics.jsonl, samples.jsonl, recipe.yaml, and evaluation.json with evaluated.jsonl where
``rnncond evaluate`` was run) or what ``rnncond caption`` or ``rnncond translate`` wrote. Each part of the page is there
where its data are. ``pipelines.reporting.pictures`` has what is shown of captions, ``sentences`` of translations.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Store
from pipelines.console import WAITING, Outcome
from pipelines.errors import UserError
from pipelines.evaluation.differences import CHANGES, Difference, difference, examples, refuse_itself
from pipelines.evaluation.output import SUMMARY
from pipelines.files.atomic import write_whole
from pipelines.files.remote_folder import RemoteFolder, below, is_remote
from pipelines.inputs.entries import naming
from pipelines.reporting import pictures, search, sentences
from pipelines.reporting.gallery import Card
from pipelines.reporting.load import ReportData, read
from pipelines.reporting.page import render
from pipelines.tracking.mlflow_run import log_page
from pipelines.tracking.models import MODELS
from pipelines.training.run.info import RunPlace, read_run
from rnncond.checkpoint import DESCRIPTION

PAGE = "report.html"
EVALUATED = "evaluated.html"
"""The page of a search's best model, once it has been evaluated; that of the search leads to it."""
BEST = "page of the best model"
CHANGED = "Changed"
"""The section of ``--compare``."""


def run(
    out: str,
    images: str | None = None,
    data: str | None = None,
    to: str | None = None,
    count: int = 24,
    fingerprint: str | None = None,
    compare: str | None = None,
    column: str | None = None,
    shown: str | None = None,
) -> Outcome:
    """Write the page. The arguments are the command line's, but for ``shown``: what the user calls ``out``, where that
    is a working copy."""
    if to and is_remote(to):
        raise UserError(f"The page is written to a local file, not to {to}; say --to FILE.")
    if is_remote(out) and not Store(out).exists():
        return of_remote_run(out, images, data, to, count, column)
    if search.is_search(out) and compare:
        raise UserError(f"--compare is of captions or translations, and {out} is a search; leave it out.")
    if search.is_search(out):
        beside = EVALUATED if (Path(out) / SUMMARY).is_file() and to is None else None
        page, trials = search.page_of(out, beside)
        summary = {"page": keep(page, out, to), "megabytes": len(page) / 1e6, "trials": trials}
        if beside is None:
            return Outcome(summary)
        best = of_results(out, images, data, str(Path(out) / beside), count, column=column, shown=shown)
        return replace(best, summary={**summary, BEST: best.summary["page"]})
    return of_results(out, images, data, to, count, fingerprint, compare, column, shown)


def of_results(
    out: str,
    images: str | None,
    data: str | None,
    to: str | None,
    count: int,
    fingerprint: str | None = None,
    compare: str | None = None,
    column: str | None = None,
    shown: str | None = None,
) -> Outcome:
    """The page of a run, of an evaluation or of what a verb decoded."""
    WAITING.phase("reading what is to be shown")
    content = read(out, count, fingerprint)
    part = sentences if content.is_text else pictures
    compared = []
    if compare:
        found = change_of(content, compare)
        compared = examples(found, count)
        content.notes[CHANGED] = describe_change(found, part.UNIT)
    known = part.references(content, data, column, [row["id"] for row in compared])
    groups = part.cards_of(content, known, images, count)
    if compare:
        groups = {CHANGED: part.changed(compared, content, known, images), **groups}
    page = render(part, content, groups, part.growth(content, known, images))
    kept = keep(page, out, to)
    # What has changed may be an example, too, and counts once.
    by_id = {getattr(card, part.KIND.id_key): card for group in groups.values() for card in group}
    cards = list(by_id.values())
    missing = pictures.missing(cards) if part is pictures else []
    summary = {"page": kept, "megabytes": len(page) / 1e6, part.UNIT: len(cards)}
    if data and cards:
        referenced = sum(bool(card.references) for card in cards)
        summary["references"] = f"{referenced:,} of {len(cards):,} {part.UNIT} have some"
    failed = missing if len(missing) == len(cards) else []  # some may have been removed since
    if missing and not failed:
        summary["pictures not found"] = naming(missing)
    if content.gone and not missing:
        summary["pictures gone"] = content.gone
    hint = hint_of_missing(out, content, compare, [card for card in cards if card.missing]) if missing else None
    news = content.outdated
    if not content.evaluation:
        news = f"The page has no {part.UNIT} and no scores yet, only the training."
    if news:
        again = content.again or f"rnncond evaluate --model {shlex.quote(shown or out)}"
        evaluate = f"{news} Next: {again}"
        hint = f"{hint}\n{evaluate}" if hint and content.evaluation else evaluate
    return Outcome(summary, len(failed), failed[:5], hint, trouble="pictures not found")


def hint_of_missing(out: str, content: ReportData, compare: str | None, missing: list[Card]) -> str:
    """What to do about pictures that were not found, with the sets that have captions of them."""
    lines = ["If the pictures have moved, say --images FOLDER."]
    if shown := content.evaluation.get("set"):
        gone = pa.array([card.image_id for card in missing])
        sets = [Store(out).open(name, kind="captions") for name in (shown, compare) if name]
        having = [one.fingerprint for one in sets if pc.any(pc.is_in(one.snapshot().ids(), value_set=gone)).as_py()]
        lines.append("With the folder or listing that was captioned in place of IMAGES,")
        drop = f"rnncond store certify {shlex.quote(out)} --of IMAGES --set"
        lines += [
            f"{drop} {fingerprint} --prune\n  drops the captions of those gone for good." for fingerprint in having
        ]
    return "\n".join(lines)


def of_remote_run(
    out: str, images: str | None, data: str | None, to: str | None, count: int, column: str | None
) -> Outcome:
    """The page of a run in object storage, made of a working copy, and put beside it unless ``to`` says where."""
    place = RunPlace.at(out)
    place.copy_runs("trials")
    place.copy_descriptions(DESCRIPTION, MODELS)
    if place.remote is None or not (place.folder / "run.json").is_file():
        raise UserError(f"{out} has nothing to show: neither a run nor an output of `rnncond caption` or `translate`.")
    outcome = run(str(place.folder), images, data, to, count, column=column, shown=out)
    for key, name in (("page", PAGE), (BEST, EVALUATED)) if to is None else ():
        if key in outcome.summary:
            RemoteFolder.at(out).put(name, (place.folder / name).read_bytes())
            outcome.summary[key] = below(out, name)
    return outcome


def change_of(content: ReportData, compare: str) -> Difference:
    """What the set that is shown says otherwise than the set ``compare``.

    Raises:
        UserError: OUT is no output of a verb that decodes.
    """
    shown = content.evaluation.get("set")
    if shown is None:
        raise UserError(
            f"--compare: {content.out} is no output of `rnncond caption` or `rnncond translate`; these have sets."
        )
    found = difference(Store(content.out), compare, shown)
    refuse_itself(found)
    return found


def describe_change(found: Difference, unit: str) -> str:
    """The numbers of a change."""
    counts = found.counts()
    names = {name: name.replace(" ", "_") for name in ("same", *CHANGES)}
    kinds = ", ".join(f"{counts[key]:,} {name}" for name, key in names.items() if counts[key])
    moves = f"; score {counts['score_moves']}" if "score_moves" in counts else ""
    return f"{unit} from set {found.before.fingerprint} to {found.after.fingerprint}: {kinds}{moves}"


def keep(page: str, out: str, to: str | None) -> str:
    """Write the page, whole or not at all, and give it to MLflow; returns where it is."""
    if to is None and is_remote(out):
        RemoteFolder.at(out).put(PAGE, page.encode())
        return below(out, PAGE)
    path = Path(to or f"{out}/{PAGE}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page)
    except OSError as error:
        raise UserError(f"The page cannot be written to {path}: {error}. Say --to ANOTHER.") from None
    log_page(read_run(out), path)
    return str(path)
