"""``rnncond translate``: a corpus translated by a trained model, or by several, into a store.

The output is a set of kind ``translations`` in the store OUT, one row a sentence:

=============  ====================================================================================
id             of the corpus: its own, or the number of the line
source         the sentence as it was given; ``version`` is a hash of it
translation    the best; empty where the sentence has no word
score          log P / length penalty + coverage penalty, as the search was asked; ``log_prob`` is log P alone
nbest          list of (translation, score), best first, the translation itself included
model          id of the model; of an ensemble, those of all, joined by +
cut            whether the sentence was longer than what is read of one
pieces         with --attention: the parts of the translation that the words of the vocabulary are
source_pieces  with --attention: those of the source, and its end
attention      with --attention: float16, pieces x source pieces
=============  ====================================================================================

The set's fingerprint is that of models and search, and of the corpus where its ids are no more than numbers of lines:
line 7 of another file is another sentence. A corpus with ids of its own may grow, and only what is new is translated;
a sentence that has changed under its id is noticed by its version, and done again with --redo-changed.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from queue import Queue
from threading import Thread
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Dataset, Store
from pipelines.api.search_arguments import load_models
from pipelines.cluster.resources import Plan
from pipelines.console import WAITING, Outcome, Progress, results, tell
from pipelines.engine import driver, dry_run
from pipelines.engine.failures import Failures
from pipelines.engine.summary import EXAMPLES, name_current
from pipelines.engine.workers import shipped
from pipelines.errors import UserError
from pipelines.files.row_lines import in_one_cell, refuse_unwritable, write_rows
from pipelines.inference.decoder import about_models
from pipelines.inference.translator import Translator, prepare
from pipelines.inputs.corpus import Corpus, corpus_in_words, with_version
from pipelines.inputs.corpus_formats import FIELDS, refuse_column

VERSION = 1
"""Of the code between text and translations: part of every fingerprint, raised when a change alters translations."""


def run(
    text: str,
    model: str,
    out: str | None,
    *,
    ensemble: list[str] | tuple[str, ...] = (),
    column: str = FIELDS[0],
    lines: str | None = None,
    options: driver.Options = driver.DEFAULTS,
    tracking_uri: str | None = None,
    **asked: Any,
) -> Outcome:
    """The verb as a function.

    Args:
        text, model, out, ensemble, column, lines, tracking_uri: see the command line.
        asked: what ``inference.translator.prepare`` takes: fields of ``SearchOptions``, ``unk_replace``, and others.

    Raises:
        UserError, StoreError, ModelError: a mistake of the user's, or another writer at work.
    """
    if text == "-":
        kept = {"--out": out, "--text": lines, "--column": None if column == FIELDS[0] else column}
        kept |= {"--attention": asked.get("attention") or None}
        given = [name for name, value in kept.items() if value is not None] + driver.unlike_defaults(options)
        if given:
            raise UserError(
                f"{' and '.join(given)}: - translates all lines of standard input to standard output, in this process, "
                "and keeps nothing; leave it out, or give a file of sentences in place of -."
            )
        return translate_input(model, ensemble, tracking_uri, **asked)
    if out is None:
        raise UserError(f"Say --out DIR: the store that the translations of {text} go to. Only - does without.")
    corpus = Corpus(text, columns=(column, FIELDS[1]), option="--column")
    if column != FIELDS[0]:
        refuse_column(column, [text])
    if remark := corpus.file.describe():
        tell(remark)
    names = [model, *ensemble]
    translator = prepare(load_models(names, tracking_uri, "cpu"), names, **asked)
    dry_run.refuse_lone_price(options.price_per_hour, options.dry_run)
    refuse_unwritable(lines, "--text")
    recipe = recipe_of(translator, corpus)
    schema, about = schema_of(translator.options.attention), about_models(translator.trained, names)
    dataset = Store(out).dataset("translations", recipe, schema, id_column="id", about=about)
    if older := sets_before_an_edit(dataset):
        tell(
            f"{text} is not what it was for the set {older[-1].fingerprint}. Its rows have no ids, so all of it is "
            "translated, into a set of its own; with a column `id` only what is new would be."
        )
    make_worker = shipped(TranslationWorker, translator, text, dataset.schema)
    chunks = map(with_version, corpus.chunks())
    row_bytes = 300 * (1 + translator.options.nbest) + 2000 * translator.options.attention
    listed = [text] if column == FIELDS[0] else [text, "--column", column]
    if options.dry_run:
        return dry_run.run(dataset, chunks, make_worker, row_bytes, "sentences", options, source=listed)
    summary = driver.run(dataset, chunks, make_worker, Progress("translate", "sentences", None), row_bytes, options)
    if lines is not None:
        kept_in = dataset.store.files.shown
        write_rows(lines, translated(corpus, dataset, options.limit), ("translation",), "--text", kept_in)
    more: dict[str, Any] = {}
    if translator.too_long == "cut":
        more["cut"] = sum(pc.sum(batch["cut"]).as_py() or 0 for batch in dataset.snapshot().scan(["cut"]))
    more |= {"model": translator.description}
    current, hint = name_current(dataset, whole=options.limit is None)
    more |= current
    if lines is not None:
        more["lines"] = lines
    outcome = summary.outcome("sentences", more, options.redo_changed, hint, listed)
    notes = [outcome.hint]
    if lines is not None and summary.changed and not options.redo_changed:
        notes.insert(0, f"{lines} has the older translations of what changed.")
    if cut := more.get("cut"):
        longest = f"Sentences longer than {translator.longest:,} tokens were cut to that many, {cut:,} in all"
        notes.insert(0, f"{longest}; --max-source-length N reads more of them.")
    outcome.hint = "\n".join(filter(None, notes))
    return outcome


TOGETHER = 64
"""Lines of standard input that are translated at once, where so many are waiting."""


def translate_input(
    model: str, ensemble: list[str] | tuple[str, ...], tracking_uri: str | None, **asked: Any
) -> Outcome:
    """Translate standard input to standard output line by line, without Ray.

    Each line's ``nbest`` or samples follow one another; one that has no translation gives as many empty lines.

    What comes slowly is translated as it comes, so that another program may wait for each answer.

    Raises:
        UserError: the model cannot be used, or the input cannot be read or is no UTF-8.
    """
    if sys.stdin is None:
        raise UserError("Standard input is closed; `translate -` reads its sentences from there.")
    names = [model, *ensemble]
    translator = prepare(load_models(names, tracking_uri, device=None), names, **asked)
    WAITING.phase("")  # from here on for whoever writes the lines
    each = max(translator.options.nbest, translator.options.samples)
    count, failures = 0, list[str]()
    for lines in waiting_lines(sys.stdin.buffer, TOGETHER):
        for number, answer in enumerate(translator(lines), count + 1):
            if isinstance(answer, str):
                failures.append(f"line {number}: {answer}")
            texts = [] if isinstance(answer, str) else [other["translation"] for other in answer["nbest"]]
            print(*map(in_one_cell, texts), *[""] * (each - len(texts)), sep="\n", file=results())
        count += len(lines)
        results().flush()
    summary = {"sentences": count, "model": f"{translator.system} {translator.model_id}"}
    return Outcome(summary, len(failures), failures[:EXAMPLES], printed=True)


def waiting_lines(file: IO[bytes], most: int) -> Iterator[list[str]]:
    """The lines of ``file`` as they come: those that are waiting already are given together, at most ``most``.

    Raises:
        UserError: a line is no UTF-8, or the file cannot be read.
    """
    lines: Queue[bytes | None] = Queue(2 * most)
    trouble: list[OSError] = []

    def read() -> None:
        try:
            for line in file:
                lines.put(line)
        except OSError as error:
            trouble.append(error)
        lines.put(None)

    Thread(target=read, name="standard input", daemon=True).start()
    count, ended = 0, False
    while not ended:
        some = [lines.get()]
        while some[-1] is not None and len(some) < most and not lines.empty():
            some.append(lines.get())
        ended = some[-1] is None
        texts = []
        for line in filter(None, some):
            count += 1
            try:
                texts.append(line.decode("utf-8-sig" if count == 1 else "utf-8").rstrip("\r\n"))
            except UnicodeDecodeError as error:
                raise UserError(f"Line {count} of standard input is no UTF-8: {error.reason}.") from None
        if texts:
            yield texts
    if trouble:
        raise UserError(f"Standard input cannot be read: {trouble[0].strerror}. It is to be open for reading.")


def recipe_of(translator: Translator, corpus: Corpus) -> dict[str, Any]:
    """All that the translations depend on."""
    return {
        "model": translator.model_id,
        "system": translator.system,
        "search": dataclasses.asdict(translator.options) | {"blocked": list(translator.options.blocked)},
        "corpus": corpus_in_words(corpus),
        "max_source_length": translator.longest,
        "too_long": translator.too_long,
        "unk_replace": translator.unk_replace,
        "lowercase": translator.vocabulary.text.lowercase,
        "version": VERSION,
    } | translator.unusual_precision


def sets_before_an_edit(dataset: Dataset) -> list[Dataset]:
    """The store's sets that differ from ``dataset`` in what was in the file alone; none once it has rows itself.
    A set without rows, this one or another that was broken off at its beginning, is none of them."""

    def but_for_content(recipe: Mapping[str, Any]) -> dict[str, Any]:
        return {**recipe, "corpus": recipe["corpus"].rpartition(" ")[0]}

    if dataset.recipe["corpus"] == "by id" or not dataset.store.exists() or dataset.snapshot().rows:
        return []
    return [
        one
        for one in dataset.store.datasets()
        if one.kind == dataset.kind
        and "corpus" in one.recipe
        and but_for_content(one.recipe) == but_for_content(dataset.recipe)
        and one.snapshot().rows
    ]


def schema_of(attention: bool) -> pa.Schema:
    best = pa.struct([pa.field("translation", pa.string()), pa.field("score", pa.float64())])
    kinds = {
        "id": pa.string(), "source": pa.string(), "version": pa.string(), "translation": pa.string(),
        "score": pa.float64(), "log_prob": pa.float64(), "nbest": pa.list_(best), "model": pa.string(),
        "cut": pa.bool_(),
    }  # fmt: skip
    if attention:
        words = pa.list_(pa.string())
        kinds |= {"pieces": words, "source_pieces": words, "attention": pa.list_(pa.list_(pa.float16()))}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])


class TranslationWorker:
    """Translates a work unit of sentences; lives in an actor."""

    def __init__(self, plan: Plan, translator: Translator, uri: str, schema: pa.Schema) -> None:
        self.translator, self.uri, self.schema = translator.to(plan.device), uri, schema

    def process(self, unit: pa.Table) -> tuple[pa.Table, pa.Table]:
        rows, failures, inputs = [], Failures.before(unit), unit.to_pylist()
        for given, said in zip(inputs, self.translator([row["source"] for row in inputs]), strict=True):
            if isinstance(said, str):
                failures.add(given["id"], self.uri, given["version"], "compute", said)
            else:
                rows.append({name: given[name] for name in ("id", "source", "version")} | said)
        return pa.Table.from_pylist(rows, schema=self.schema), failures.table()


def translated(corpus: Corpus, dataset: Dataset, limit: int | None = None) -> Iterator[list[dict[str, Any]]]:
    """The sentences with their translations in the corpus's order, chunk by chunk; of what failed "" and no score."""
    snapshot = dataset.snapshot()
    failed = snapshot.failures()["id"].combine_chunks()
    for chunk in driver.limited(corpus.chunks(), limit):
        gone = pc.is_in(chunk["id"], value_set=failed)
        there = chunk["id"].filter(pc.invert(gone)).combine_chunks()
        rows = iter(snapshot.take(there, ["translation", "score"]).to_pylist())
        nothing = {"translation": "", "score": None}
        yield [
            {**given, **(nothing if is_gone else next(rows))}
            for given, is_gone in zip(chunk.select(["id", "source"]).to_pylist(), gone.to_pylist(), strict=True)
        ]
