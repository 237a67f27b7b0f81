"""Text as tokens in a store: a set of kind ``tokens``, one row a pair, made once for all runs on the same text.

==============  ==================================================================
id              of the pair, as ``pipelines.inputs.corpus`` gives it
source          its tokens and EOS, list<int32>
target          its tokens, list<int32>; training puts BOS before them and EOS behind
source_length   words of ``source`` and of ``target``, int32: what batches are made by
target_length
reference       the target as text, which scores compare with
==============  ==================================================================

The vocabularies lie beside the sets, in STORE/vocabularies: a tokenizer that was trained again might differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from feature_store import Dataset, Store, failure_schema
from pipelines.cluster.resources import Plan
from pipelines.config.sections import PairText
from pipelines.console import Progress, tell
from pipelines.engine import driver
from pipelines.engine.workers import shipped
from pipelines.errors import UserError
from pipelines.inputs.corpus import Corpus
from rnncond.text import Vocabulary
from rnncond.text.special_tokens import EOS

VERSION = 1
"""Of the code between text and tokens: part of every fingerprint."""

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.list_(pa.int32()), nullable=False),
        pa.field("target", pa.list_(pa.int32()), nullable=False),
        pa.field("source_length", pa.int32(), nullable=False),
        pa.field("target_length", pa.int32(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
    ]
)


def source_tokens(vocabulary: Vocabulary, sentences: Sequence[str]) -> list[list[int]]:
    """What a translator reads: the tokens of each sentence and EOS, so that an empty one has a word, too."""
    return [[*tokens, EOS] for tokens in vocabulary.encode_batch(sentences)]


def vocabularies(store: Store, corpus: Corpus, text: PairText) -> tuple[Vocabulary, Vocabulary]:
    """Of source and target, the same one twice where it is joint: those that the store has, or else trained now. Only
    that of the target gives its sentences case.

    Raises:
        UserError: the text makes no vocabulary of that size.
    """
    settings = text.model_dump(exclude={"max_length", "joint", "truecase"})
    key = json.dumps([corpus.digest, text.joint, settings, VERSION], sort_keys=True)
    path = f"vocabularies/{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    store.create()
    kept = store.files.read(path)
    if kept is None:
        tell(f"Vocabulary: {settings['level']} of {' and '.join(corpus.paths)}")
        texts = [chain.from_iterable(corpus.pairs())] if text.joint else [side(corpus, n) for n in (0, 1)]
        try:
            trained = [Vocabulary.train(sentences, **settings) for sentences in texts]
        except ValueError as error:
            raise UserError(f"text: {error}") from None
        kept = json.dumps([vocabulary.to_json() for vocabulary in trained]).encode()
        store.files.write(path, kept)
    sides = [Vocabulary.from_json(content) for content in json.loads(kept)]
    return sides[0], sides[-1].truecasing(side(corpus, 1)) if text.truecase else sides[-1]


def side(corpus: Corpus, number: int) -> Iterable[str]:
    return (pair[number] for pair in corpus.pairs())


def tokenise(
    store: Store, corpus: Corpus, source: Vocabulary, target: Vocabulary, address: str | None = None
) -> Dataset:
    """The set of the corpus's tokens in ``store``; on Ray, where it is not there or not complete.

    Raises:
        UserError, StoreError: the text is not what it should be, or the store cannot be written.
    """
    recipe: dict[str, Any] = {"corpus": corpus.digest, "version": VERSION}
    recipe |= {"source_vocabulary": source.fingerprint, "target_vocabulary": target.fingerprint}
    dataset = store.dataset("tokens", recipe, SCHEMA, id_column="id")
    make_worker = shipped(Tokenizer, source.to_json(), target.to_json())
    progress = Progress("tokens", "pairs", None)
    options = driver.Options(address=address, retry_failed=True)
    summary = driver.run(dataset, whole(corpus), make_worker, progress, ROW_BYTES, options)
    if summary.failed:
        raise UserError(f"text: {summary.failed:,} pairs of {corpus.source} give no tokens: {summary.failures[0]}")
    return dataset


def whole(corpus: Corpus) -> Iterator[pa.Table]:
    for chunk in corpus.chunks():
        if chunk["target"].null_count:
            number = chunk["target"].is_null().index(True).as_py()
            raise UserError(f"text: the pair {chunk['id'][number]} of {corpus.source} has no {corpus.columns[1]!r}")
        yield chunk


ROW_BYTES = 200
"""About what a pair adds to the store."""


class Tokenizer:
    """Tokenises a unit of pairs; lives in an actor."""

    def __init__(self, plan: Plan, *vocabularies: str) -> None:
        self.source, self.target = map(Vocabulary.from_json, vocabularies)

    def process(self, unit: pa.Table) -> tuple[pa.Table, pa.Table]:
        return rows_of(unit, self.source, self.target), failure_schema("id").empty_table()


def rows_of(pairs: pa.Table, source: Vocabulary, target: Vocabulary) -> pa.Table:
    """Rows of ``SCHEMA`` of a corpus's pairs."""
    sources = source_tokens(source, pairs["source"].to_pylist())
    targets = target.encode_batch(pairs["target"].to_pylist())
    lengths = [pa.array([len(tokens) for tokens in side], pa.int32()) for side in (sources, targets)]
    return pa.table([pairs["id"], sources, targets, *lengths, pairs["target"]], schema=SCHEMA)
