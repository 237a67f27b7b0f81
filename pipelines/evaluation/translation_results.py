"""Translations to be scored: made here by a model, written by ``rnncond translate``, or those of a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from feature_store import Snapshot
from pipelines import console
from pipelines.config.choices import DecodingPrecision
from pipelines.config.metrics import tokenizer_of
from pipelines.errors import UserError
from pipelines.evaluation.results import (
    TRANSLATIONS,
    Evaluation,
    Results,
    Row,
    Seen,
    about_output,
    check_written,
    failures_of,
    ids_of,
    open_output,
    rounded,
    seen_by_models,
)
from pipelines.evaluation.translation_files import check_lengths, in_order, is_table, read_references, read_translations
from pipelines.evaluation.translation_metrics import translation_scores
from pipelines.inputs.corpus import Corpus
from pipelines.inputs.corpus_formats import FIELDS, column_names
from rnncond.checkpoint import Trained

if TYPE_CHECKING:
    from pipelines.inference.translator import Translator

BATCH = 512
"""Sentences between two signs of progress."""
DECIMALS = 4
COLUMNS = ("id", "source", "translation", "log_prob", "nbest")
"""Of a set of translations, all but the large ones."""
NO_REFERENCES = "Say --references FILE: the translations of people to score against."


def from_model(
    trained: Trained,
    model: str,
    source: str | None,
    references: Sequence[str],
    search: Mapping[str, Any],
    precision: DecodingPrecision = "float32",
    column: str | None = None,
) -> Results:
    """Translate a source in this process; by default the text that the model was validated on.

    Args:
        search: fields of ``SearchOptions``; the model's recipe has the others.

    Raises:
        UserError: the model does not say what that was, or source and references are not line by line each other's.
    """
    from pipelines.inference.decoder import unusual
    from pipelines.inference.translator import prepare

    source, references, columns, most = what_to_translate(trained, model, source, references)
    corpus = Corpus(source, columns=columns, option="")
    inputs = [row for chunk in corpus.chunks() for row in chunk.to_pylist()][:most]
    targets = read_references(references or [source], column, most, usual=columns[1])
    check_lengths(len(inputs), source, len(targets), references or [source])
    targets = in_order(targets, (references or [source])[0], [row["id"] for row in inputs], source)
    translator = prepare([trained], [model], precision=precision, **search)

    data = trained.info.get("recipe", {}).get("data", {})
    results = Results(TRANSLATIONS, [], lowercase=translator.vocabulary.text.lowercase)
    results.target_language = data.get("target_language")
    results.seen = seen_of(data, [row["source"] for row in inputs])
    sentences = {row["id"]: row["source"] for row in inputs}
    translations: list[dict[str, Any] | str] = []
    with console.Progress("translations", "sentences", len(inputs)) as progress:
        for start in range(0, len(inputs), BATCH):
            translations += translator([row["source"] for row in inputs[start : start + BATCH]])
            progress.advance(min(BATCH, len(inputs) - start))
    for row, translation, (_, lines) in zip(inputs, translations, targets, strict=True):
        if isinstance(translation, str):
            results.missing.append(f"{row['id']}: {translation}")
            translation = NOTHING
        results.rows.append(with_references({"id": row["id"], "source": row["source"], **translation}, lines))
    results.about = {
        "model": {"id": trained.model_id, "system": trained.system, "folder": model},
        "search": unusual(dataclasses.asdict(translator.options)) | translator.unusual_precision,
        "source": source,
        "references": list(references) or [source],
        "cut": sum(not isinstance(one, str) and one["cut"] for one in translations),
        "max_source_length": translator.longest,
    }
    if translator.attends():
        translator.options = dataclasses.replace(translator.options, attention=True)
        results.attend = partial(translate_sentences, translator, sentences)
    return results


def seen_of(data: Mapping[str, Any], sources: Sequence[str]) -> Seen | None:
    """How many of ``sources`` are in the validation text of a model with this section ``data``; None where that is not
    there any more. Training text is not read: it can be large, and shares short sentences with any other."""
    columns = tuple(data.get("columns") or FIELDS)
    try:
        corpus = Corpus(data["validation_source"], columns=columns)
        validated = {row["source"] for chunk in corpus.chunks() for row in chunk.to_pylist()}
    except (UserError, KeyError):
        return None
    return Seen(trained_on=0, chose_epoch=sum(sentence in validated for sentence in sources))


def translate_sentences(translator: Translator, sentences: Mapping[str, str], ids: Sequence[str]) -> Iterator[Row]:
    """Rows of some ids with the attention that the translator keeps."""
    for name, translation in zip(ids, translator([sentences[name] for name in ids]), strict=True):
        if not isinstance(translation, str):
            yield as_row({"id": name, "source": sentences[name], **translation})


def what_to_translate(
    trained: Trained, model: str, source: str | None, references: Sequence[str]
) -> tuple[str, list[str], tuple[str, str], int | None]:
    """Source, references, names of a table's columns, and how many sentences: those asked for, or of validation.

    A table that is asked for has the columns of the training's, or else ``source`` and ``target``.
    """
    data = trained.info.get("recipe", {}).get("data", {})
    columns = tuple(data.get("columns") or FIELDS)
    if source is not None:
        if not references and not is_table(source):
            raise UserError(NO_REFERENCES)
        tables = (source, references[0] if references else source)
        read, written = (
            name if name in column_names(table) else usual
            for table, name, usual in zip(tables, columns, FIELDS, strict=True)
        )
        return source, list(references), (read, written), None
    if references:
        raise UserError("Say --source FILE, too: the sentences that the references translate.")
    if not data.get("validation_source"):
        raise UserError(f"The model {model} does not say what it was validated on; say --source and --references.")
    target = data.get("validation_target")
    return data["validation_source"], [target] if target else [], columns, data.get("validation_lines")


def from_output(out: str, references: Sequence[str], fingerprint: str | None, column: str | None = None) -> Results:
    """What ``rnncond translate`` wrote, matched with references by id: the number of the line, or the corpus's own.

    Where the references have ids, translations without references are counted, and references of what was never
    translated are named, as with captions; lines have to be as many as the sentences.

    Raises:
        UserError: there are no translations in ``out``, or the references are of other sentences.
    """
    if not references:
        raise UserError(NO_REFERENCES)
    dataset = open_output(out, TRANSLATIONS, fingerprint)
    snapshot = dataset.snapshot()
    failures = failures_of(snapshot, TRANSLATIONS)
    check_written(snapshot, failures, out, TRANSLATIONS)
    targets = read_references(references, column)
    by_id = "id" in column_names(references[0])
    if not by_id:
        check_lengths(snapshot.rows + len(failures), out, len(targets), references)
    translations = {row["id"]: row for batch in snapshot.scan(COLUMNS) for row in batch.to_pylist()}
    unknown = [name for name, _ in targets if name not in translations and name not in failures]
    if unknown and (not by_id or len(unknown) == len(targets)):
        raise unmatched(out, unknown[0], references[0], min(translations, default="nothing"))
    targets = [(name, lines) for name, lines in targets if name in translations or name in failures]
    scored = {name for name, _ in targets}
    sources = [translations[name]["source"] for name in scored & translations.keys()]
    about = Evaluation(set=dataset.fingerprint, translations=out, references=list(references))
    if others := len(translations.keys() - scored):
        about["not_scored"] = {"translations_without_references": others}
    if by_id and "source" in column_names(references[0]):
        now = Corpus(references[0], option="")
        sentences = {row["id"]: row["source"] for chunk in now.chunks() for row in chunk.to_pylist()}
        about["stale"] = sum(translations[name]["source"] != sentences[name] for name in scored & translations.keys())
    return Results(
        TRANSLATIONS,
        [
            with_references(translations.get(name) or {"id": name, "source": "", **NOTHING}, lines)
            for name, lines in targets
        ],
        [
            *(f"{name}: {reason}" for name, reason in sorted(failures.items()) if name in scored),
            *(f"{name}: no translation in {out}, so not scored" for name in unknown),
        ],
        {**about_output(dataset.recipe), **about},
        (lambda ids: take(snapshot, ids)) if "attention" in snapshot.schema.names else None,
        dataset.recipe["lowercase"],
        seen=seen_by_models(dataset, partial(seen_of, sources=sources)),
    )


def unmatched(out: str, unknown: str, references: str, own: str) -> UserError:
    """The error of references with an id that no sentence of ``out`` has; ``own`` is an id that one has.

    Which line of its corpus a sentence with an id was, a store does not know: so lines are not matched with it.
    """
    return UserError(
        f"{out} has no sentence {unknown!r}, which {references} has; its own are called like {own!r}. Give references "
        "with the corpus's ids: .jsonl, .csv, .tsv or .parquet with id and target. If they are lines in the corpus's "
        "order, write the translations so, too, with `rnncond translate ... --text X.txt`, and say --hypotheses X.txt."
    )


def from_file(hypotheses: str, references: Sequence[str], source: str | None, column: str | None = None) -> Results:
    """A file of translations, line by line those of the references, or by id where both have a column ``id``;
    ``source`` is only shown."""
    targets = read_references(references, column)
    translations = read_translations(hypotheses)
    ids = [name for name, _ in targets]
    about = Evaluation(hypotheses=hypotheses, references=list(references))
    if all("id" in column_names(path) for path in (hypotheses, references[0])):
        console.tell(f"{hypotheses} and {references[0]} are matched by their ids.")
        if others := len({name for name, _ in translations} - {*ids}):
            about["not_scored"] = {"translations_without_references": others}
    else:
        check_lengths(len(translations), hypotheses, len(targets), references)
    translations = in_order(translations, hypotheses, ids, references[0])
    rows = [
        Row(id=name, translation=line[0], references=lines)
        for (name, lines), (_, line) in zip(targets, translations, strict=True)
    ]
    if source is not None:
        table = [row for chunk in Corpus(source, option="").chunks() for row in chunk.to_pylist()]
        check_lengths(len(table), source, len(targets), references)
        sentences = in_order([(row["id"], row["source"]) for row in table], source, ids, references[0])
        for row, (_, sentence) in zip(rows, sentences, strict=True):
            row["source"] = sentence
    if source:
        about["source"] = source
    return Results(TRANSLATIONS, rows, about=about)


def evaluate(results: Results, tokenizer: str | None, lowercase: bool | None) -> Evaluation:
    """Score translations; rows get their own scores.

    A sentence without a translation counts as an empty one: leaving it out would reward giving up.

    Args:
        tokenizer: None for that of the model's target language.
        lowercase: score without regard to case; None: if the model's vocabulary has no capitals.
    """
    folded = lowercase if lowercase is not None else bool(results.lowercase)
    tokenizer = tokenizer or tokenizer_of(results.target_language)
    hypotheses = [row["translation"] for row in results.rows]
    scores = translation_scores(hypotheses, [row["references"] for row in results.rows], folded, tokenizer)
    for row, own in zip(results.rows, scores.per_sentence, strict=True):
        row["scores"] = {name: round(value, 2) for name, value in own.items()}
    evaluation: Evaluation = {
        **results.about,
        "kind": "translations",
        "sentences": len(results.rows),
        "missing": results.missing,
        "scores": scores.corpus,
        "brevity_penalty": scores.brevity_penalty,
        "length_ratio": scores.length_ratio,
        "without_brevity_penalty": scores.without_brevity_penalty,
        "signatures": scores.signatures,
        "bleu": scores.bleu,
        "lowercase": folded,
        "tokenizer": tokenizer,
        "comparability": comparability(
            folded, lowercase is not None, results.lowercase, any(map(has_case, hypotheses))
        ),
    }
    return evaluation | {"seen": results.seen} if results.seen else evaluation


def has_case(text: str) -> bool:
    """Whether there is a capital in it."""
    return text != text.lower()


def comparability(folded: bool, asked: bool, model: bool | None, cased: bool) -> str:
    """What scores these can be compared with, in words."""
    if not folded:
        none = "the model's vocabulary has" if model else "the translations have"
        return "cased, by sacrebleu" + ("" if cased and not model else f", although {none} no capitals (--lowercase)")
    why = " as the model's vocabulary is" if model and not asked else ""
    return f"lowercased{why}, by sacrebleu: they compare with lowercased scores only"


NOTHING: dict[str, Any] = {"translation": "", "log_prob": None, "nbest": []}
"""The columns of a sentence that has no translation."""


def take(snapshot: Snapshot, ids: Sequence[str]) -> Iterable[Row]:
    """Rows of those ids that there are, with all that they have."""
    there = set(ids_of(snapshot))
    return (as_row(row) for row in snapshot.take([name for name in ids if name in there]).to_pylist())


def with_references(values: Mapping[str, Any], references: list[str]) -> Row:
    return {**as_row(values), "references": references}


def as_row(values: Mapping[str, Any]) -> Row:
    """A row from the columns of ``rnncond translate``."""
    row = Row(
        id=values["id"],
        source=values["source"],
        translation=values["translation"],
        log_prob=values["log_prob"],
        others=[other["translation"] for other in values["nbest"][1:]],
    )
    if values.get("attention") is not None and len(values["attention"]):
        row["attention"] = {
            "pieces": values["pieces"],
            "source_pieces": values["source_pieces"],
            "weights": rounded(values["attention"], DECIMALS),
        }
    return row
