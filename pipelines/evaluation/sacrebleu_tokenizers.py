"""sacrebleu's tokenizers, and in one message what each of them lacks here: nothing is downloaded while scoring."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipelines.config.metrics import BLEU_TOKENIZERS
from pipelines.errors import UserError

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

PACKAGES = {"ja-mecab": "'sacrebleu[ja]'", "ko-mecab": "'sacrebleu[ko]'"}
"""What is installed for a tokenizer that needs a dictionary."""


def bleu_of(tokenizer: str, lowercase: bool = False, effective_order: bool = False) -> BLEU:
    """sacrebleu's BLEU with one of ``BLEU_TOKENIZERS``.

    Raises:
        UserError: there is no such tokenizer, or its packages or its model are not installed.
    """
    from sacrebleu.metrics.bleu import BLEU

    if tokenizer not in BLEU_TOKENIZERS:
        raise UserError(f"The tokenizer {tokenizer!r} is not sacrebleu's; its own are {', '.join(BLEU_TOKENIZERS)}.")
    refuse_download(tokenizer)
    try:
        return BLEU(lowercase=lowercase, tokenize=tokenizer, effective_order=effective_order)
    except (ImportError, RuntimeError, AssertionError):  # whatever each of them raises
        install = f"pip install {PACKAGES.get(tokenizer, 'sentencepiece')}"
        raise UserError(
            f"The tokenizer {tokenizer} needs packages that are not installed here: {install}. Or score with "
            "--tokenizer char, which needs none; scores of different tokenizers do not compare."
        ) from None


def refuse_download(tokenizer: str) -> None:
    """Refuse a tokenizer whose model sacrebleu would fetch."""
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    model = SPM_MODELS.get(tokenizer)
    if model is None:
        return
    file = os.path.join(SACREBLEU_DIR, "models", os.path.basename(model["url"]))
    if not os.path.exists(file):
        raise UserError(
            f"The tokenizer {tokenizer} needs its model, and nothing is downloaded while scoring. Put {model['url']} "
            f"into {file}, or score with --tokenizer char; scores of different tokenizers do not compare."
        )


def words_by(tokenizer: str) -> Callable[[str], list[str]]:
    """What cuts a sentence into lower-case words without punctuation, for the scores of captions.

    Raises:
        UserError: as for ``bleu_of``.
    """
    cut = bleu_of(tokenizer).tokenizer

    def words(sentence: str) -> list[str]:
        return [word for word in cut(" ".join(sentence.lower().split())).split() if any(map(str.isalnum, word))]

    return words
