"""``rnncond evaluate``: captions against references.

Writes two files, which ``rnncond report`` shows:

evaluation.json   scores of the whole set, how they were made, the model and its search, what was missing
evaluated.jsonl   an object an image: caption, references, its own scores, and for some the attention of each word
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from pipelines.captions import SHOWN
from pipelines.console import Outcome, UserError
from pipelines.gallery import choose
from pipelines.hypotheses import Captions, from_file, from_model, from_output
from pipelines.recipe import absolute
from pipelines.scores import Scores, Tokeniser, score, shuffled_cider

app = typer.Typer(rich_markup_mode="rich", add_completion=False)

SUMMARY, ROWS = "evaluation.json", "evaluated.jsonl"
ATTENDED = 60
"""Images whose attention is kept: the best, middle and worst, as a report shows them."""


EXAMPLES = """
Examples:

  rnncond evaluate --model runs/show_attend_tell --shuffled

  rnncond evaluate --captions captioned --data captions.jsonl

  rnncond evaluate --hypotheses results.json --references captions_val2014.json
"""


@app.command(epilog=EXAMPLES)
def run(
    model: Annotated[str | None, Option(help="caption a split with it: a folder, runs:/ or models:/")] = None,
    captions: Annotated[str | None, Option(help="score the output of `rnncond caption`")] = None,
    hypotheses: Annotated[str | None, Option(help="score a file: COCO results, JSON lines, or ID<tab>caption")] = None,
    data: Annotated[str | None, Option("--data", "--references", help="captions of people; those of training")] = None,
    store: Annotated[str | None, Option(help="features; by default those of training")] = None,
    split: Annotated[str | None, Option(help="train, val or test; by default val, or all of --hypotheses")] = None,
    beam: Annotated[int, Option(help="hypotheses followed at once", min=1)] = 5,
    tokeniser: Annotated[Tokeniser, Option(help="ptb, as published scores use, needs Java")] = "auto",
    shuffled: Annotated[bool, Option("--shuffled", help="also give each image the caption of another")] = False,
    fingerprint: Annotated[str | None, Option("--set", help="which captions, where --captions has several")] = None,
    out: Annotated[str | None, Option(help="folder of the results; by default the run, or --captions")] = None,
) -> Outcome:
    """Score captions against references: BLEU, ROUGE-L, CIDEr, and METEOR and SPICE where Java can run them."""
    given = {"--model": model, "--captions": captions, "--hypotheses": hypotheses}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise UserError(f"Say one of {', '.join(given)}; found {' and '.join(named) or 'none'}.")
    data = data and absolute(data)
    if model is not None:
        found, folder = from_model(model, data, store, split or "val", beam)
    elif captions is not None:
        found, folder = from_output(captions, data, split or "val", fingerprint), captions
    else:
        found, folder = from_file(hypotheses, data, split), None
    out = out or folder
    if out and "://" in out:
        raise UserError(f"The results are written to a local folder, not to {out}; say --out FOLDER.")
    evaluation = evaluate(found, tokeniser, shuffled, Path(out) if out else None)
    return outcome(evaluation, found.missing, out)


def evaluate(found: Captions, tokeniser: Tokeniser, shuffled: bool, out: Path | None) -> dict[str, Any]:
    """Score, and write both files to ``out``; returns what is in evaluation.json."""
    said = {row["image_id"]: row["caption"] for row in found.rows}
    references = {row["image_id"]: row["references"] for row in found.rows}
    scores = score(said, references, tokeniser)
    for row in found.rows:
        row["scores"] = {name: round(value, 2) for name, value in scores.per_image[row["image_id"]].items()}
    evaluation = {**found.about, "images": len(said), "missing": found.missing, **as_json(scores)}
    if shuffled:
        other = shuffled_cider(said, references, tokeniser)
        ratio = scores.corpus["CIDEr"] / other if other else None
        evaluation["shuffled"] = {"CIDEr": other, "ratio": ratio}
    if out is not None:
        keep_attention(found)
        write(out, evaluation, found.rows)
    return evaluation


def as_json(scores: Scores) -> dict[str, Any]:
    return {
        "scores": scores.corpus,
        "tokeniser": scores.tokeniser,
        "comparability": scores.comparability,
        "left_out": scores.left_out,
    }


def keep_attention(found: Captions) -> None:
    """Add what the model attended to, to the rows that a report shows."""
    if found.attend is None:
        return
    shown = {row["image_id"]: row for group in choose(found.rows, ATTENDED).values() for row in group}
    for row in found.attend(list(shown)):
        if "attention" in row:
            shown[row["image_id"]]["attention"] = row["attention"]


def write(out: Path, evaluation: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with open(out / ROWS, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (out / SUMMARY).write_text(json.dumps(evaluation, indent=1, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise UserError(f"The results cannot be written to {out}: {error}. Say --out ANOTHER.") from None


def outcome(evaluation: dict[str, Any], missing: list[str], out: str | None) -> Outcome:
    summary = {"images": evaluation["images"], **evaluation["scores"]}
    if "shuffled" in evaluation:
        summary["CIDEr of shuffled pictures"] = evaluation["shuffled"]["CIDEr"]
        summary["ratio"] = evaluation["shuffled"]["ratio"] or "none: shuffled pictures score nothing"
    summary |= {"tokeniser": evaluation["tokeniser"], "comparability": evaluation["comparability"]}
    for name, reason in evaluation["left_out"].items():
        summary[f"no {name}"] = reason
    if out:
        summary["written"] = str(Path(out) / SUMMARY)
    hint = f"To see the captions:  rnncond report {out}" if out else None
    return Outcome(summary, len(missing), missing[:SHOWN], hint)
