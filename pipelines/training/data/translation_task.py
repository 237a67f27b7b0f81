"""What a translator is trained on: pairs of sentences, as tokens in a store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from feature_store import Snapshot, Store
from pipelines import console
from pipelines.config.metrics import tokenizer_of
from pipelines.config.recipe import TranslationRecipe
from pipelines.errors import UserError
from pipelines.evaluation.sacrebleu_tokenizers import bleu_of
from pipelines.inputs.corpus import Corpus
from pipelines.training.data.start_model import REWARDS, reward_of, start_of
from pipelines.training.data.token_batches import Pairs, TokenBatches, pairs_of
from pipelines.training.data.tokens import tokenise, vocabularies
from rnncond.checkpoint import tensors_of
from rnncond.rewards import Reward
from rnncond.text import Vocabulary


@dataclass(frozen=True)
class TranslationTask:
    """Sent to every worker: all of the data but the tokens. A ``Task``.

    Attributes:
        start: weights to begin with, from ``training.start_from``, whose vocabularies they are then.
        sources, references: the validation sentences as text; the sources as their tokens spell them.
    """

    recipe: TranslationRecipe
    train_set: Snapshot
    validation_set: Snapshot
    train: Pairs
    validation: Pairs
    sources: list[str]
    references: list[str]
    vocabulary: str
    source_vocabulary: str
    data_id: str
    start: dict[str, Tensor] | None = None
    features: None = None

    def batches(self, rank: int, ranks: int) -> tuple[TokenBatches, TokenBatches]:
        tokens = self.recipe.training.tokens_per_batch
        place: dict[str, Any] = {"rank": rank, "ranks": ranks, "memory": self.recipe.data.memory_gb * 2**30}
        train = TokenBatches(self.train_set, self.train, tokens, self.recipe.seed, **place)
        return train, TokenBatches(self.validation_set, self.validation, tokens, **place)

    def sizes(self) -> dict[str, int]:
        return {"source_vocab_size": len(Vocabulary.from_json(self.source_vocabulary))}

    def reward(self, device: torch.device) -> Reward:
        return REWARDS[reward_of(self.recipe)]

    def count(self) -> int:
        return len(self.references)

    def scores(self, translations: dict[int, str]) -> dict[str, float]:
        """BLEU and chrF by sacrebleu, without regard to case where the vocabulary has none."""
        from sacrebleu.metrics.chrf import CHRF

        lowercase = self.recipe.text.lowercase
        bleu = bleu_of(tokenizer_of(self.recipe.data.target_language), lowercase)
        hypotheses = [translations[pair] for pair in range(self.count())]
        return {
            "BLEU": bleu.corpus_score(hypotheses, [self.references]).score,
            "chrF": CHRF(lowercase=lowercase).corpus_score(hypotheses, [self.references]).score,
        }

    def sample(self, pair: int, translation: str) -> dict[str, Any]:
        return {
            "id": str(pair),
            "source": self.sources[pair],
            "translation": translation,
            "references": [self.references[pair]],
        }

    def describe(self) -> str:
        pairs, limit = self.train, self.recipe.text.max_length
        left_out = f" ({pairs.left_out:,} left out: a side is empty or of more than {limit} tokens)"
        return f"{len(pairs.row):,} pairs{left_out if pairs.left_out else ''}"


def prepare(recipe: TranslationRecipe, address: str | None = None) -> tuple[TranslationTask, dict[str, Any]]:
    """The task of a recipe, and what to tell of its data. Text that is not in the store yet is tokenised on Ray.

    Raises:
        UserError, StoreError: the text is not there or not what the recipe says, or the store cannot be written.
    """
    data = recipe.data
    bleu_of(tokenizer_of(data.target_language))  # what is not installed is reported before hours of work
    train = Corpus(data.source, data.target, data.columns)
    validation = Corpus(data.validation_source, data.validation_target, data.columns)
    for corpus in (train, validation):
        if remark := corpus.file.describe():
            console.tell(remark)
    store = Store(data.store)
    start = start_of(recipe)
    if start and start.source_vocabulary:
        source, target = start.source_vocabulary, start.vocabulary
    else:
        source, target = vocabularies(store, train, recipe.text)
    made = [tokenise(store, corpus, source, target, address) for corpus in (train, validation)]
    sets = [dataset.snapshot() for dataset in made]
    pairs = pairs_of(sets[0], recipe.text.max_length, data.train_lines), pairs_of(sets[1], first=data.validation_lines)
    if not len(pairs[0].row):
        raise UserError(
            f"No pair of {data.source} can be learnt from: all {pairs[0].left_out:,} have an empty side or one of more "
            f"than text.max_length={recipe.text.max_length} tokens."
        )
    shown = pa.Table.from_batches(sets[1].scan(["source", "reference"])).slice(0, len(pairs[1].row))
    # Of the text and its order, wherever the store lies and whenever it was made.
    digest = hashlib.sha256("".join(dataset.fingerprint for dataset in made).encode())
    for part in pairs:
        for array in (part.group, part.row, part.source_length, part.target_length):
            digest.update(array.tobytes())
    task = TranslationTask(
        recipe=recipe,
        train_set=sets[0],
        validation_set=sets[1],
        train=pairs[0],
        validation=pairs[1],
        sources=[source.decode(tokens) for tokens in shown["source"].to_pylist()],
        references=shown["reference"].to_pylist(),
        vocabulary=target.to_json(),
        source_vocabulary=source.to_json(),
        start=tensors_of(start.model) if start else None,
        data_id=digest.hexdigest()[:16],
    )
    about = {
        "pairs": len(pairs[0].row),
        "pairs_left_out": pairs[0].left_out,
        "validation_pairs": len(pairs[1].row),
        "source_words": len(source),
        "target_words": len(target),
    }
    return task, about
