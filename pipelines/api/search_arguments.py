"""How a sentence is looked for: what ``caption`` and ``translate`` take besides their inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

from pipelines.config.spelling import instead_of
from pipelines.errors import UserError
from pipelines.inference.decoder import default_device, search_options, with_beam
from pipelines.tracking.models import locate
from rnncond import checkpoint
from rnncond.checkpoint import Trained
from rnncond.search import SearchOptions


class SearchArguments(TypedDict, total=False):
    """Keyword arguments of a search. What is left out is as in the model's recipe, and the beam 5.

    Attributes:
        beam: hypotheses followed at once; 1 is greedy search.
        nbest: sentences kept of each input, at most ``beam``.
        samples: draw so many sentences from the model, in place of a search.
        temperature: divides the logits before a draw; below 1 for likelier words.
        top_k: draw from the k most probable words only; 0 for all.
        top_p: draw from the fewest most probable words that hold this much probability (Holtzman et al. 2020).
        seed: of the draws; with the same inputs it gives the same sentences.
        max_length, min_length: in words.
        length_penalty, alpha: divide log P by 1, by the length, or as GNMT does with the exponent ``alpha``.
        coverage_beta: weight of GNMT's coverage penalty.
        no_repeat_ngram: repeat no sequence of this many words; 0 allows all.
        attention: keep the attention of each word.
    """

    beam: int
    nbest: int
    samples: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    max_length: int
    min_length: int
    length_penalty: Literal["none", "average", "gnmt"]
    alpha: float
    coverage_beta: float
    no_repeat_ngram: int
    attention: bool


class Alternative(NamedTuple):
    """A sentence with its score: log P / length penalty + coverage penalty, as the search was asked."""

    text: str
    score: float

    def __str__(self) -> str:
        return self.text


def options_of(trained: Trained, asked: Mapping[str, Any]) -> SearchOptions:
    """The search that a call asks for.

    Raises:
        UserError: an argument that there is not, or arguments that do not fit together.
    """
    known = list(SearchArguments.__annotations__)
    for name in asked:
        if name not in known:
            raise UserError(f"There is no argument {name!r}.{instead_of(name, known)}")
    return search_options(trained, **with_beam(asked))


def load_models(models: Sequence[str | Path], tracking_uri: str | None, device: str | None) -> list[Trained]:
    """The models by the names that the user gave, on ``device``; by default on a GPU where there is one."""
    device = device or default_device()
    return [checkpoint.load(locate(model, tracking_uri), device) for model in models]
