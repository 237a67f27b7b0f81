"""Translations that are scored or shown: made here by a model, those of ``rnncond translate``, or those of a file.

Wherever they come from, a translation is a row, an object of evaluated.jsonl: id, translation and references; source,
log_prob and others (the next best) where they are known; scores; and for some sentences attention: the pieces of the
translation, those of the source, and the weights (pieces x source pieces).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from feature_store import Snapshot
from pipelines import console
from pipelines.errors import UserError
from pipelines.evaluation.caption_results import open_output
from pipelines.inference.decoder import unusual
from pipelines.inference.translator import Translator, prepare
from pipelines.inputs.corpus import FIELDS, Corpus, kind_of
from pipelines.inputs.entries import naming
from rnncond.checkpoint import Trained

BATCH = 512
"""Sentences between two signs of progress."""
DECIMALS = 4
PLAIN = ("id", "source", "translation", "log_prob", "nbest")
"""Columns of translations but for the large ones."""


@dataclass
class Translations:
    """What is to be scored.

    Attributes:
        rows: one a reference, in the references' order; what has no translation has an empty one.
        lowercase: whether the model writes lower case; None where that is not known.
        missing: sentences without a translation, with the reason.
        about: where all this came from; goes into evaluation.json.
        attend: rows of some ids again, with attention.
    """

    rows: list[dict[str, Any]]
    lowercase: bool | None = None
    missing: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    attend: Callable[[Sequence[str]], Iterable[dict[str, Any]]] | None = None


def from_model(trained: Trained, model: str, source: str | None, references: Sequence[str], beam: int) -> Translations:
    """Translate a source in this process; by default the text that the model was validated on.

    Raises:
        UserError: the model does not say what that was, or source and references are not line by line each other's.
    """
    source, references, columns, most = what_to_translate(trained, model, source, references)
    corpus = Corpus.open(source, columns=columns)
    given = [row for chunk in corpus.chunks() for row in chunk.to_pylist()][:most]
    meant = read_references(references or [source], columns, most)
    check_lengths(len(given), source, len(meant), references or [source])
    translator = prepare([trained], [model], beam=beam, nbest=min(3, beam))

    found = Translations([], translator.vocabulary.text.lowercase)
    sentences = {row["id"]: row["source"] for row in given}
    said: list[dict[str, Any] | str] = []
    with console.Progress("translations", "sentences", len(given)) as progress:
        for start in range(0, len(given), BATCH):
            said += translator([row["source"] for row in given[start : start + BATCH]])
            progress.advance(min(BATCH, len(given) - start))
    for row, one, (_, lines) in zip(given, said, meant, strict=True):
        if isinstance(one, str):
            found.missing.append(f"{row['id']}: {one}")
            one = nothing()
        found.rows.append(as_row({"id": row["id"], "source": row["source"]} | one) | {"references": lines})
    found.about = {
        "model": {"id": trained.model_id, "system": trained.system, "folder": model},
        "search": unusual(dataclasses.asdict(translator.options)),
        "source": source,
        "references": list(references) or [source],
        "cut": sum(not isinstance(one, str) and one["cut"] for one in said),
    }
    if translator.attends():
        translator.options = dataclasses.replace(translator.options, attention=True)
        found.attend = partial(attend, translator, sentences)
    return found


def attend(translator: Translator, sentences: Mapping[str, str], ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of some ids with the attention that the translator keeps."""
    for name, one in zip(ids, translator([sentences[name] for name in ids]), strict=True):
        if not isinstance(one, str):
            yield as_row({"id": name, "source": sentences[name]} | one)


def what_to_translate(
    trained: Trained, model: str, source: str | None, references: Sequence[str]
) -> tuple[str, list[str], tuple[str, str], int | None]:
    """Source, references, names of a table's columns, and how many sentences: those asked for, or of validation."""
    if source is not None:
        if not references and not is_table(source):
            raise UserError("Say --references FILE: the translations of people to score against.")
        return source, list(references), FIELDS, None
    data = trained.info.get("recipe", {}).get("data", {})
    if references:
        raise UserError("Say --source FILE, too: the sentences that the references translate.")
    if not data.get("validation_source"):
        raise UserError(f"The model {model} does not say what it was validated on; say --source and --references.")
    target = data.get("validation_target")
    columns = tuple(data.get("columns") or FIELDS)
    return data["validation_source"], [target] if target else [], columns, data.get("validation_lines")


def from_output(out: str, references: Sequence[str], fingerprint: str | None) -> Translations:
    """What ``rnncond translate`` wrote, met with references by id: the number of the line, or the corpus's own."""
    if not references:
        raise UserError("Say --references FILE: the translations of people to score against.")
    dataset = open_output(out, fingerprint, kind="translations")
    snapshot = dataset.snapshot()
    failed = {row["id"]: row["reason"] for row in snapshot.failures().to_pylist()}
    meant = read_references(references)
    check_lengths(snapshot.rows + len(failed), out, len(meant), references)
    rows = {row["id"]: row for batch in snapshot.scan(PLAIN) for row in batch.to_pylist()}
    unknown = [name for name, _ in meant if name not in rows and name not in failed]
    if unknown:
        raise UserError(
            f"{out} has no sentence {unknown[0]!r}, which {references[0]} has; its own are called like "
            f"{min(rows, default='nothing')!r}. Give references with the corpus's ids: .jsonl, .tsv or .parquet with "
            "id and target."
        )
    return Translations(
        [
            as_row(rows.get(name) or {"id": name, "source": "", **nothing()}) | {"references": lines}
            for name, lines in meant
        ],
        dataset.recipe["lowercase"],
        [f"{name}: {reason}" for name, reason in sorted(failed.items())],
        about_output(dataset.recipe) | {"translations": out, "references": list(references)},
        (lambda ids: take(snapshot, ids)) if "attention" in snapshot.schema.names else None,
    )


def from_lines(hypotheses: str, references: Sequence[str], source: str | None) -> Translations:
    """A file of translations, line by line those of the references; ``source`` is only shown."""
    meant = read_references(references)
    said = read_references([hypotheses])
    check_lengths(len(said), hypotheses, len(meant), references)
    given = [""] * len(said)
    if source is not None:
        given = [row for chunk in Corpus.open(source).chunks() for row in chunk["source"].to_pylist()]
        check_lengths(len(given), source, len(meant), references)
    rows = [
        {"id": name, "translation": line[0], "references": lines} | ({"source": one} if one else {})
        for (name, lines), (_, line), one in zip(meant, said, given, strict=True)
    ]
    about = {"hypotheses": hypotheses, "references": list(references), "source": source}
    return Translations(rows, about={name: value for name, value in about.items() if value})


def read_references(
    paths: Sequence[str], columns: tuple[str, str] = FIELDS, most: int | None = None
) -> list[tuple[str, list[str]]]:
    """Id and references of each sentence: lines of text, or the target column of tables.

    Raises:
        UserError: a table has no target, or the files are not of one length.
    """
    files = []
    for path in paths:
        rows = [row for chunk in Corpus.open(path, columns=columns).chunks() for row in chunk.to_pylist()][:most]
        text = "target" if is_table(path) else "source"
        if absent := [row["id"] for row in rows if row[text] is None]:
            raise UserError(f"{path} has no {columns[1]!r}, the translation, of {naming(absent, 'row')}.")
        files.append([(row["id"], row[text]) for row in rows])
        check_lengths(len(files[-1]), path, len(files[0]), paths[:1])
    return [(lines[0][0], [text for _, text in lines]) for lines in zip(*files, strict=True)]


def is_table(path: str) -> bool:
    return kind_of(path) != "lines"


def check_lengths(found: int, where: str, expected: int, references: Sequence[str]) -> None:
    if found != expected:
        raise UserError(
            f"{where} has {found:,} sentences and {references[0]} has {expected:,}; line by line they should be of the "
            "same sentences."
        )


def about_output(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a set's recipe says of its translations."""
    about = {"model": {"id": recipe["model"], "system": recipe["system"]}, "search": unusual(recipe["search"])}
    return about | {name: recipe[name] for name in ("corpus", "max_source_length", "too_long", "unk_replace")}


def nothing() -> dict[str, Any]:
    return {"translation": "", "log_prob": None, "nbest": []}


def take(snapshot: Snapshot, ids: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Rows with all that they have."""
    there = set(snapshot.ids(include_failures=False).to_pylist())
    return (as_row(row) for row in snapshot.take([name for name in ids if name in there]).to_pylist())


def as_row(said: Mapping[str, Any]) -> dict[str, Any]:
    """A row from the columns of ``rnncond translate``."""
    row = {name: said[name] for name in ("id", "source", "translation", "log_prob")}
    row["others"] = [other["translation"] for other in said["nbest"][1:]]
    if said.get("attention") is not None and len(said["attention"]):
        weights = np.asarray([np.asarray(one, np.float64) for one in said["attention"]])
        row["attention"] = {
            "pieces": said["pieces"],
            "source_pieces": said["source_pieces"],
            "weights": weights.round(DECIMALS).tolist(),
        }
    return row
