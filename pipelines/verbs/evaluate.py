"""``rnncond evaluate``: captions or translations against references.

Writes two files, which ``rnncond report`` shows:

evaluation.json   scores of the whole set, how they were made, the model and its search, what was missing
evaluated.jsonl   an object for each image or sentence: its caption or translation, references, its own scores, and for
                  some the attention of each word

The model, or the look of the references, tells what is scored: captions of images, or lines of text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyarrow import fs

from pipelines.config.choices import DecodingPrecision, ScoredKind, Tokenizer
from pipelines.config.dotted import absolute
from pipelines.console import WAITING, Outcome, tell
from pipelines.errors import UserError
from pipelines.evaluation import caption_results, translation_results
from pipelines.evaluation.output import ROWS, SUMMARY, outcome, scored, write
from pipelines.evaluation.results import Results
from pipelines.files import filesystems
from pipelines.files.remote_folder import is_remote
from pipelines.files.storage import open_stream
from pipelines.files.text import encoding_of, packing_of
from pipelines.inference.decoder import default_device, option_of, with_beam
from pipelines.tracking.mlflow_run import log_evaluation
from pipelines.tracking.models import locate, run_above
from pipelines.training.run.info import RunPlace, read_run
from rnncond import checkpoint

KEPT = 3
"""Captions or translations of each input that are kept, at most."""


def run(
    *,
    model: str | None = None,
    captions: str | None = None,
    translations: str | None = None,
    hypotheses: str | None = None,
    data: Sequence[str] | None = None,
    source: str | None = None,
    kind: ScoredKind | None = None,
    lowercase: bool | None = None,
    store: str | None = None,
    split: str | None = None,
    precision: DecodingPrecision = "float32",
    tokenizer: Tokenizer | None = None,
    partial: bool = False,
    shuffled: bool = False,
    fingerprint: str | None = None,
    out: str | None = None,
    tracking_uri: str | None = None,
    column: str | None = None,
    loaded: checkpoint.Trained | None = None,
    **asked: Any,
) -> Outcome:
    """Score, and write the scores into OUT. The arguments are the command line's, but for ``loaded``: what ``model``
    names, where the caller has it in memory, in evaluation mode; ``asked`` are fields of ``SearchOptions``."""
    given = {
        "--model": model, "--captions": captions, "--translations": translations, "--hypotheses": hypotheses
    }  # fmt: skip
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise UserError(f"Say one of {', '.join(given)}; found {' and '.join(named) or 'none'}.")
    refuse_options_of_others(named[0], {
        "--kind": (kind, ("--hypotheses",)),
        "--set": (fingerprint, ("--captions", "--translations")),
        "--store": (store, ("--model",)),
        "--source": (source, ("--model", "--hypotheses")),
        "--precision": (precision != "float32", ("--model",)),
    })  # fmt: skip
    if partial and hypotheses is None:
        raise UserError(
            f"--partial is for --hypotheses; with {named[0]} the images that have captions are scored in any case, and "
            "the others named."
        )
    if asked and model is None:
        options = " and ".join(map(option_of, asked))
        raise UserError(f"{options}: only --model is searched here, and what {named[0]} has was before; leave it out.")
    search = with_beam(asked)
    search["nbest"] = min(KEPT, search["beam"])
    references = [absolute(path) for path in data or ()]
    source = source and absolute(source)
    trained = folder = None
    if model is not None:
        WAITING.phase("loading the model")
        found_at = locate(model, tracking_uri)
        trained = loaded or checkpoint.load(found_at, default_device())
        folder = run_of(model, found_at)
    if hypotheses is not None:
        if not references:
            raise UserError("Say --references FILE: what people said, to score against.")
        text = (kind or look(references[0])) == "text"
    else:
        text = translations is not None or (trained is not None and trained.source_vocabulary is not None)
    only_captions = {"--store": store, "--split": split, "--shuffled": shuffled or None, "--partial": partial or None,
                     "--tokenizer": tokenizer if tokenizer in ("ptb", "simple") else None}  # fmt: skip
    refuse_the_others(text, only_captions, {"--source": source, "--lowercase": lowercase, "--column": column})
    place = None
    out = out or folder
    if out and is_remote(out):
        place = RunPlace.at(out)
        if not (place.folder / "run.json").is_file():
            raise UserError(f"The results are written to a run or a local folder; {out} is neither. Say --out FOLDER.")
        place.refuse_if_written()
    out = out or captions or translations
    if place is None and out and is_remote(out):
        raise UserError(f"The results are written to a run or a local folder, not to {out}; say --out FOLDER.")

    results: Results
    WAITING.phase("reading what is to be scored")
    if text:
        if trained is not None:
            results = translation_results.from_model(trained, str(model), source, references, search, precision, column)
        elif translations is not None:
            results = translation_results.from_output(translations, references, fingerprint, column)
        else:
            results = translation_results.from_file(str(hypotheses), references, source, column)
        WAITING.phase("scoring")
        evaluation = translation_results.evaluate(results, None if tokenizer == "auto" else tokenizer, lowercase)
    else:
        if len(references) > 1:
            raise UserError(
                f"Captions of people are one file, which has all of an image; found {' and '.join(references)}."
            )
        people = references[0] if references else None
        if trained is not None:
            results = caption_results.from_model(trained, str(model), people, store, split or "val", search, precision)
        elif captions is not None:
            results = caption_results.from_output(captions, people, split or "val", fingerprint)
        else:
            results = caption_results.from_file(str(hypotheses), people, split, partial)
        WAITING.phase("scoring")
        evaluation = caption_results.evaluate(results, tokenizer, shuffled)
    replaced = ""
    if place is not None:
        replaced = write(place.folder, evaluation, results)
        place.add_texts(SUMMARY, ROWS)
    elif out:
        replaced = write(Path(out), evaluation, results)
    if out and folder and (out == folder if place else Path(out) == Path(folder)):
        copy = place.folder if place else Path(out)
        log_evaluation(read_run(copy), copy / SUMMARY, evaluation["scores"], scored(evaluation))
    written = place.within(SUMMARY) if place else str(Path(out) / SUMMARY) if out else None
    return outcome(evaluation, results.kind, written, replaced)


def run_of(model: str, folder: Path) -> str | None:
    """Where a model's results go unless the user says: its run. A model out of MLflow, or of a folder in object storage
    that is no run, has none."""
    if model.startswith(("runs:", "models:")):
        return None
    if is_remote(model):
        return run_above(model)
    if folder.parent.name == "history":
        return str(folder.parent.parent)
    return str(folder.parent if folder.name in ("best", "last", "averaged") else folder)


def look(references: str) -> ScoredKind:
    """Whether a file of references has captions of images, which name their images, or lines of text."""
    filesystem, inside = filesystems.locate(references)
    if filesystems.type_of(filesystem, inside) == fs.FileType.Directory:
        return "captions"
    try:
        with open_stream(filesystem, inside, packing_of(inside)) as file:
            content = file.read(1 << 16)
    except OSError as error:
        raise UserError(f"The references {references} cannot be read: {error}") from None
    start = content.decode(encoding_of(content), errors="replace").lstrip()
    named = start.startswith("{") and re.search(r'"(captions|images|annotations|image_id)"\s*:', start)
    kind: ScoredKind = "captions" if named or re.match(r"[^\t\n]+#\d+\t", start) else "text"
    what, other = {"captions": ("captions of images", "text"), "text": ("translations", "captions")}[kind]
    tell(f"{references} looks like {what}, and is scored as these; --kind {other} if not.")
    return kind


def refuse_options_of_others(named: str, given: Mapping[str, tuple[Any, tuple[str, ...]]]) -> None:
    """Refuse options that mean nothing to what is scored, which the option ``named`` names.

    Args:
        given: of each option its value, and what it is of.
    """
    for option, (value, of) in given.items():
        if value and named not in of:
            raise UserError(f"{option} is of {' and '.join(of)}, and means nothing to {named}; leave it out.")


def refuse_the_others(text: bool, of_captions: dict[str, Any], of_text: dict[str, Any]) -> None:
    """Options that mean nothing to what is scored."""
    wrong = [name for name, value in (of_captions if text else of_text).items() if value is not None]
    if wrong:
        scored, theirs = ("translations", "captions") if text else ("captions", "translations")
        raise UserError(f"{' and '.join(wrong)} is of {theirs}, and these are {scored}; leave it out.")
