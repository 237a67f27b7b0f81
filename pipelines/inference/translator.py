"""Sentences in, translations out: ``Translator``, a model (or an ensemble) with a search."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Encoding

from pipelines.config.choices import TooLong
from pipelines.engine.memory import MemoryBackoff
from pipelines.errors import UserError
from pipelines.inference.decoder import (
    Decoder,
    pieces,
    refuse_other_vocabularies,
    refuse_without_attention,
    search_options,
)
from rnncond.checkpoint import Trained
from rnncond.contract import Source
from rnncond.fast.lean import Precision
from rnncond.search import Hypotheses, SearchOptions
from rnncond.text.special_tokens import EOS, PAD, UNK

LONGEST = 200
"""Tokens of a source sentence, where neither the user nor the model's recipe says."""
BATCH = {"cpu": (2048, 64), "cuda": (32768, 1024)}
"""Source tokens, padding included, and sentences that are searched at once, by device."""
SOURCE_END = " </s>"
"""Label of the source's last place in a matrix of attention."""
NO_ATTENTION = "check refuses systems that have none"


class Read(NamedTuple):
    """A source sentence of ``length`` tokens as the model reads it: ``tokens`` without EOS, as many as are read, and
    the word that each is a part of."""

    tokens: list[int]
    words: list[str]
    length: int

    @property
    def cut(self) -> bool:
        return self.length > len(self.tokens)


class Translator(Decoder):
    """With ``unk_replace``, UNK may be chosen and becomes a source word: see ``replace_unknown``.

    Args:
        trained: one model, or those of an ensemble.
        options: of the search; ``prepare`` makes them from what the user asked.
        longest: tokens of a source sentence that are read; those of a longer one are cut off, or it is refused.
    """

    def __init__(
        self,
        trained: Sequence[Trained],
        options: SearchOptions,
        longest: int = LONGEST,
        too_long: TooLong = "cut",
        unk_replace: bool = False,
        precision: Precision = "float32",
    ) -> None:
        self.longest, self.too_long, self.unk_replace = longest, too_long, unk_replace
        if unk_replace:
            options = dataclasses.replace(options, blocked=tuple(word for word in options.blocked if word != UNK))
        super().__init__(trained, options, precision)
        vocabulary = trained[0].source_vocabulary
        assert vocabulary is not None, "prepare refuses models that describe pictures"
        self.source_vocabulary = vocabulary

    def check(self) -> None:
        """Refuse what every sentence would fail at: attention asked of a system that has none."""
        asked = {"--attention": self.options.attention, "--unk-replace": self.unk_replace,
                 "--coverage-penalty": bool(self.options.coverage_beta)}  # fmt: skip
        if any(asked.values()) and not self.attends():
            refuse_without_attention(self.trained, asked)

    def attends(self) -> bool:
        """Whether all of the models do, which only a search tells."""
        asking = dataclasses.replace(self.options, attention=True, coverage_beta=0.0)
        return self.search([[UNK, EOS]], asking).attention is not None

    def __call__(self, sentences: Sequence[str]) -> list[dict[str, Any] | str]:
        """For each sentence its columns from ``translation`` on, or the reason why it has none."""
        read = self.read(sentences)
        answers: list[dict[str, Any] | str] = [self.nothing()] * len(read)
        lengths = {}
        for place, one in enumerate(read):
            if one.cut and self.too_long == "refuse":
                answers[place] = f"{one.length:,} tokens, more than --max-source-length {self.longest:,}"
            elif one.tokens:
                lengths[place] = len(one.tokens) + 1
        for batch in by_length(lengths, *BATCH[self.device.type]):
            # Anew for each batch: how many sentences memory holds depends on how long they are.
            for some, hypotheses in MemoryBackoff()(
                lambda places: self.search([[*read[place].tokens, EOS] for place in places], self.options), batch
            ):
                for b, place in enumerate(some):
                    answers[place] = self.row(hypotheses, b, read[place])
        return answers

    def read(self, sentences: Sequence[str]) -> list[Read]:
        encoded = self.source_vocabulary.tokenizer.encode_batch(list(sentences))
        return [
            Read(
                one.ids[: self.longest],
                words_of(sentence, one)[: self.longest] if self.unk_replace else [],
                len(one.ids),
            )
            for sentence, one in zip(sentences, encoded, strict=True)
        ]

    def search(self, tokens: Sequence[Sequence[int]], options: SearchOptions) -> Hypotheses:
        """Hypotheses of source sentences with their EOS, on the CPU."""
        options = dataclasses.replace(options, attention=options.attention or self.unk_replace)
        longest = max(map(len, tokens))
        values = torch.tensor([[*line, *[PAD] * (longest - len(line))] for line in tokens], device=self.device)
        lengths = torch.tensor([len(line) for line in tokens], device=self.device)
        source = Source(values, torch.arange(longest, device=self.device) < lengths[:, None])
        return self.decode(source, options)

    def row(self, hypotheses: Hypotheses, b: int, read: Read) -> dict[str, Any] | str:
        tokens = [
            line[: length - 1]
            for line, length in zip(hypotheses.tokens[b], hypotheses.lengths[b], strict=True)
            if length
        ]
        if not tokens:
            return "the search found no translation: its rules leave nothing to say"
        parts = [self.parts(line.tolist(), hypotheses, b, n, read) for n, line in enumerate(tokens)]
        nbest = [
            {"translation": "".join(said).strip(), "score": score}
            for said, score in zip(parts, hypotheses.scores[b].tolist(), strict=False)  # fewer than nbest may be found
        ]
        row: dict[str, Any] = {
            "translation": nbest[0]["translation"],
            "nbest": nbest,
            "model": self.model_id,
            "cut": read.cut,
        }
        row |= {"score": hypotheses.scores[b, 0].item(), "log_prob": hypotheses.log_probs[b, 0].item()}
        if self.options.attention:
            assert hypotheses.attention is not None, NO_ATTENTION
            row["pieces"] = parts[0]
            row["source_pieces"] = [*pieces(self.source_vocabulary, read.tokens), SOURCE_END]
            row["attention"] = list(hypotheses.attention[b, 0, : len(parts[0]), : len(read.tokens) + 1].half().numpy())
        return row

    def parts(self, tokens: list[int], hypotheses: Hypotheses, b: int, n: int, read: Read) -> list[str]:
        """Hypothesis ``n`` of sentence ``b`` in the pieces that its tokens are, or in one where they do not matter."""
        unknown = self.unk_replace and UNK in tokens
        if not unknown and not (self.options.attention and n == 0):
            return [self.vocabulary.decode(tokens)]
        parts = pieces(self.vocabulary, tokens)
        if not unknown:
            return parts
        words = [word.lower() for word in read.words] if self.vocabulary.lowers else read.words
        assert hypotheses.attention is not None, NO_ATTENTION
        return replace_unknown(parts, tokens, hypotheses.attention[b, n].numpy(), words)

    def nothing(self) -> dict[str, Any]:
        """The row of a sentence without words."""
        row: dict[str, Any] = {
            "translation": "",
            "nbest": [{"translation": "", "score": 0.0}],
            "model": self.model_id,
            "cut": False,
        }
        row |= {"score": 0.0, "log_prob": 0.0}
        return row | ({"pieces": [], "source_pieces": [], "attention": []} if self.options.attention else {})


def prepare(
    trained: Sequence[Trained],
    names: Sequence[str],
    max_source_length: int | None = None,
    too_long: TooLong = "cut",
    unk_replace: bool = False,
    precision: Precision = "float32",
    **asked: Any,
) -> Translator:
    """A Translator as the user asked for it, found to be possible.

    Args:
        names: what the user called each model.
        precision: in which the models multiply.
        max_source_length: by default ``text.max_length`` of the first model's recipe.
        asked: fields of ``SearchOptions``; the first model's recipe has the others.

    Raises:
        UserError: a model that describes pictures, models of different vocabularies, attention where there is none,
            or a search that cannot be.
    """
    for one, name in zip(trained, names, strict=True):
        refuse_captioner(one, name)
    refuse_other_vocabularies(trained, names, "vocabulary", "source_vocabulary")
    recipe = trained[0].info.get("recipe", {})
    longest = max_source_length or recipe.get("text", {}).get("max_length") or LONGEST
    translator = Translator(trained, search_options(trained[0], **asked), longest, too_long, unk_replace, precision)
    translator.check()
    return translator


def refuse_captioner(trained: Trained, name: str) -> None:
    if trained.source_vocabulary is None:
        raise UserError(
            f"The model {name} is of the system {trained.system}, which describes pictures; only one that reads text "
            "can translate. For pictures there is `rnncond caption`."
        )


def by_length(lengths: dict[int, int], most_tokens: int, most_sentences: int) -> Iterator[list[int]]:
    """Places in batches of like lengths, the longest first: what needs the most memory shows at once."""
    batch: list[int] = []
    for place in sorted(lengths, key=lambda place: (-lengths[place], place)):
        if batch and (len(batch) == most_sentences or lengths[batch[0]] * (len(batch) + 1) > most_tokens):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def words_of(text: str, encoded: Encoding) -> list[str]:
    """For each token the word of ``text``, as it stands there, that it is a part of; "" for a blank alone."""
    ends: dict[int | None, tuple[int, int]] = {}
    for word, (start, end) in zip(encoded.word_ids, encoded.offsets, strict=True):
        first, last = ends.get(word, (start, end))
        ends[word] = min(first, start), max(last, end)
    return [text[slice(*ends[word])].strip() for word in encoded.word_ids]


def replace_unknown(
    parts: Sequence[str], tokens: Sequence[int], weights: np.ndarray, words: Sequence[str]
) -> list[str]:
    """Each UNK becomes the source word that it attended most (Jean, Cho, Memisevic and Bengio 2015; copying an aligned
    word for UNK is from Luong, Sutskever, Le, Vinyals and Zaremba 2015).

    Args:
        parts: of the translation, one for each of ``tokens``, blanks included.
        weights: (T, S) attention; places beyond ``words`` are EOS and padding.
        words: of each source token; a place without a word is passed over.
    """
    real = np.array([bool(word) for word in words])
    if not real.any():
        return list(parts)
    replaced = []
    for part, token, row in zip(parts, tokens, weights, strict=False):
        if token == UNK:
            best = words[int(np.where(real, row[: len(words)], -1.0).argmax())]
            part = part[: len(part) - len(part.lstrip())] + best
        replaced.append(part)
    return replaced
