"""What an evaluation writes and tells: evaluation.json, evaluated.jsonl, and the summary of the command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.config.dotted import from_here
from pipelines.console import Outcome
from pipelines.errors import UserError
from pipelines.evaluation.results import CAPTIONS, Evaluation, Kind, Results, Row, Seen
from pipelines.files.atomic import replacing, write_whole
from pipelines.files.jsonl import json_object
from pipelines.inputs.entries import SHOWN

SUMMARY, ROWS = "evaluation.json", "evaluated.jsonl"
ATTENDED = 60
"""Images, or sentences, whose attention is kept: the best, middle and worst, as a report shows them."""

MUCH_LONGER = 1.2
"""Length of texts over that of their references from which on it is told: the brevity penalty does not show it."""


def scored(evaluation: Mapping[str, Any], name: Callable[[str], str] = str) -> str:
    """What an evaluation is of, in words: its files, and the split of these; empty where it does not say.

    Args:
        name: what to call a file, by its path.
    """
    people = ", ".join(map(name, evaluation.get("references") or filter(None, [evaluation.get("data")])))
    if not people:
        return ""
    part = f"the split {evaluation['split']} of {people}" if evaluation.get("split") else people
    text = evaluation.get("hypotheses") or evaluation.get("translations") or evaluation.get("captions")
    text = name(text or evaluation.get("source") or "")
    text += f", its set {evaluation['set']}" if text and "set" in evaluation else ""
    return f"{text}, against {part}" if text and text != people else part


def write(out: Path, evaluation: Evaluation, results: Results) -> str:
    """Write both files, with the attention of those rows that a report shows.

    Returns:
        Of what other data the evaluation was whose place they take; empty where there was none.

    Raises:
        UserError: the folder cannot be written.
    """
    before = scored(read_evaluation(out), from_here)
    if results.attend is not None:
        kind = results.kind
        shown = {kind.id_of(row): row for rows in choose(results.rows, ATTENDED, kind).values() for row in rows}
        for row in results.attend(list(shown)):
            if "attention" in row:
                shown[kind.id_of(row)]["attention"] = row["attention"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / ROWS) as fresh, open(fresh, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in results.rows)
        write_whole(out / SUMMARY, json.dumps(evaluation, indent=1, ensure_ascii=False))
    except OSError as error:
        raise UserError(f"The results cannot be written to {out}: {error}. Say --out ANOTHER.") from None
    return "" if before == scored(evaluation, from_here) else before


def read_evaluation(out: Path) -> dict[str, Any]:
    """evaluation.json of a folder; empty where there is none that can be read."""
    try:
        return json_object((out / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def outcome(evaluation: Evaluation, kind: Kind, written: str | None, replaced: str = "") -> Outcome:
    """What the command tells.

    Args:
        written: evaluation.json; None where nothing was.
        replaced: what other data the evaluation was of that was there before.
    """
    count = evaluation["images"] if kind == CAPTIONS else evaluation["sentences"]
    summary: dict[str, Any] = {"scored": scored(evaluation, from_here), kind.unit: count, **evaluation["scores"]}
    if "search" in evaluation:
        how = "samples" if evaluation["search"].get("samples") else "beam"
        summary[how] = evaluation["search"][how]
    summary |= about_bleu(evaluation) | about_seen(evaluation, kind.unit)
    if stale := evaluation.get("stale"):
        edited = "the source beside the reference is another than was translated; translate it with --redo-changed"
        summary["stale"] = f"{stale:,} of {count:,} {kind.unit}: {edited}"
    if evaluation.get("cut"):
        longest = evaluation.get("max_source_length")
        summary[f"cut to {longest:,} tokens" if longest else "cut"] = evaluation["cut"]
    if "shuffled" in evaluation:
        summary["CIDEr of shuffled pictures"] = evaluation["shuffled"]["CIDEr"]
        summary["ratio"] = evaluation["shuffled"]["ratio"] or "none: shuffled pictures score nothing"
    summary |= {f"{name} signature": signature for name, signature in evaluation.get("signatures", {}).items()}
    if "bleu" in evaluation:
        summary["BLEU's parts"] = evaluation["bleu"]
    summary |= {"tokenizer": evaluation["tokenizer"], "comparability": evaluation["comparability"]}
    summary |= {f"{name} left out": reason for name, reason in evaluation.get("left_out", {}).items()}
    summary |= {key.replace("_", " "): count for key, count in evaluation.get("not_scored", {}).items()}
    if written:
        summary["written"] = written
    if replaced:
        summary["in place of"] = f"the scores of {replaced}; another --out keeps both"
    hint = f"Next: rnncond report {shlex.quote(str(Path(written).parent))}" if written else None
    missing = evaluation["missing"]
    return Outcome(summary, len(missing), missing[:SHOWN], hint, trouble=f"without a {kind.text_key}")


def about_bleu(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Whether the BLEU above has a brevity penalty in it, and what it is without one, as some papers print it."""
    bleu = {name: f"{value:.1f}" for name, value in evaluation["without_brevity_penalty"].items()}
    penalty, ratio = evaluation["brevity_penalty"], evaluation.get("length_ratio", 1.0)
    names = " / ".join(bleu)
    if penalty < 1:
        meaning = f"the texts are shorter than their references, and it is a factor of {names} above"
    elif ratio >= MUCH_LONGER:
        meaning = f"the texts are {ratio:.1f} times as long as their references, which it does not punish"
    else:
        meaning = f"the texts are not shorter than their references, so it does not lower {names} above"
    return {
        "brevity penalty": f"{penalty:.3f}: {meaning}",
        "without that penalty": f"{names}: " + " / ".join(bleu.values()),
    }


def about_seen(evaluation: Mapping[str, Any], unit: str, whose: str = "") -> dict[str, str]:
    """Warnings of scores that are better than those of new images, or sentences, would be; empty where the training has
    seen none of what is scored, or it is not known.

    Args:
        unit: what to call what is scored.
        whose: before each warning, where there are several models: "champion ".
    """
    seen = evaluation.get("seen", Seen(trained_on=0, chose_epoch=0))
    counts = {"also trained on": seen["trained_on"], "also chose the epoch": seen["chose_epoch"]}
    total = evaluation.get("images") or evaluation.get("sentences", 0)
    warning = f"of {total:,} {unit}: of new {unit} expect less"
    return {f"{whose}{name}": f"{count:,} {warning}" for name, count in counts.items() if count}


def choose(rows: Sequence[Row], count: int, kind: Kind = CAPTIONS) -> dict[str, list[Row]]:
    """About ``count`` rows, so that nothing is hidden: the best, those around the median, and the worst, by the score
    that ranks the kind. Without scores: spread evenly over all rows, in their order."""
    count = min(count, len(rows))
    if not count:
        return {}
    if not all(kind.ranked_by in row.get("scores", {}) for row in rows):
        places = np.linspace(0, len(rows) - 1, count).round().astype(int)
        return {"Examples": [rows[place] for place in places]}
    ranked = sorted(rows, key=lambda row: (-row["scores"][kind.ranked_by], kind.id_of(row)))
    end = count // 3
    between = ranked[end : len(ranked) - end]
    start = (len(between) - (count - 2 * end)) // 2
    groups = {
        "Best": ranked[:end],
        "Middle": between[start : start + count - 2 * end],
        "Worst": ranked[len(ranked) - end :],
    }
    return {name: group for name, group in groups.items() if group}
