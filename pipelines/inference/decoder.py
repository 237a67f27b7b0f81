"""What every verb that decodes shares: the search that was asked for, by one model or several, and sentences cut into
their tokens' parts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import torch

from pipelines.errors import UserError
from rnncond.checkpoint import Trained
from rnncond.contract import Source, System
from rnncond.fast import kernels
from rnncond.fast.lean import Precision, lean, supported
from rnncond.search import Hypotheses, SearchOptions, ensemble, join, search
from rnncond.text import Vocabulary

COMPILE_AFTER = 32
"""Batches that a process decodes before it takes the seconds to compile attention."""


class Decoder:
    """One model, or those of an ensemble, with a search. Can be pickled.

    Args:
        trained: the models.
        options: of the search.
        precision: in which the models multiply.
    """

    def __init__(self, trained: Sequence[Trained], options: SearchOptions, precision: Precision = "float32") -> None:
        self.trained, self.options, self.precision = list(trained), options, precision
        self.models: list[System] = []
        self.batches = 0
        self.vocabulary = trained[0].vocabulary
        # Hashes of all weights, not to be taken for every example.
        self.model_id = "+".join(one.model_id for one in trained)
        self.system = " + ".join(one.system for one in trained)
        self.device = next(trained[0].model.parameters()).device

    @property
    def unusual_precision(self) -> dict[str, Any]:
        """What a fingerprint has of the precision: nothing of float32, so that sets of earlier versions keep theirs."""
        return {} if self.precision == "float32" else {"precision": self.precision}

    @property
    def description(self) -> str:
        """The systems, the models' ids and the precision, as a summary has them."""
        models = f"{self.system} {self.model_id}"
        if self.precision == "float32":
            return models
        if supported(self.precision, self.device):
            return f"{models} in {self.precision}"
        return f"{models} in float32, as this machine has no instructions for {self.precision}"

    def to(self, device: str) -> Self:
        """Move to ``device``, once and for all: what decodes is prepared there at the first batch."""
        self.device = torch.device(device)
        for one in self.trained:
            one.model.to(self.device).eval()
        self.models = []
        return self

    def with_options(self, options: SearchOptions) -> Self:
        """The same models with another search. What is prepared of them at the first batch of either serves both."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self) | {"options": options})
        return other

    @torch.no_grad()
    def decode(self, source: Source, options: SearchOptions) -> Hypotheses:
        """Hypotheses for the examples of ``source``; on the CPU."""
        if not self.models:
            # In place, for all that share them; and at once, since a server may decode in several threads.
            self.models[:] = [lean(one.model, self.precision) for one in self.trained]
        self.batches += 1
        if self.batches == COMPILE_AFTER:
            kernels.enable()
        memories = [model.encode(source) for model in self.models]
        states = [model.init_state(memory) for model, memory in zip(self.models, memories, strict=True)]
        steps = [model.step for model in self.models]
        if len(steps) > 1:
            step, memory, state = ensemble(*steps), join(memories), join(states)
        else:
            step, memory, state = steps[0], memories[0], states[0]
        hypotheses = search(step, memory, state, options, mask=source.mask)
        return Hypotheses(
            hypotheses.tokens.cpu(),
            hypotheses.lengths.cpu(),
            hypotheses.scores.cpu(),
            hypotheses.log_probs.cpu(),
            None if hypotheses.attention is None else hypotheses.attention.cpu(),
        )

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"models": []}


def default_device() -> str:
    """A GPU, where this process sees one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


BEAM = 5
"""Hypotheses followed at once, unless the user says."""


def with_beam(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked of a search, with a beam where it has none: ``BEAM``, or 1 where sentences are drawn."""
    return {"beam": 1 if asked.get("samples") else BEAM} | dict(asked)


def option_of(field: str) -> str:
    """What the command line calls a ``field`` of ``SearchOptions``."""
    return "--" + {"coverage_beta": "coverage_penalty"}.get(field, field).replace("_", "-")


def search_options(trained: Trained, **changes: Any) -> SearchOptions:
    """The search that the model's recipe asks for, with ``changes``.

    Raises:
        UserError: the changes do not fit together.
    """
    asked = trained.info.get("recipe", {}).get("search", {}) | changes
    asked = {name: tuple(value) if isinstance(value, list) else value for name, value in asked.items()}
    try:
        return SearchOptions(**asked)
    except ValueError as error:
        raise UserError(f"The search cannot be done: {error}") from None


def refuse_other_vocabularies(trained: Sequence[Trained], names: Sequence[str], *which: str) -> None:
    """Refuse an ensemble of models of different vocabularies.

    Args:
        names: what the user called each model.
        which: attributes of ``Trained``.
    """
    for one, name in zip(trained[1:], names[1:], strict=True):
        for what in which:
            mine, first = getattr(one, what), getattr(trained[0], what)
            if mine != first:
                raise UserError(
                    f"An ensemble needs one vocabulary: the {what.replace('_', ' ')} of {name} has {len(mine):,} "
                    f"entries ({mine.fingerprint}), that of {names[0]} {len(first):,} ({first.fingerprint}). Train "
                    "the models on the same text with the same `text:` section."
                )


def refuse_without_attention(trained: Sequence[Trained], asked: Mapping[str, bool]) -> None:
    """Refuse the options that are ``asked`` of models of which not all attend."""
    wanted = " and ".join(name for name, is_asked in asked.items() if is_asked)
    if wanted and len(trained) > 1:
        systems = " + ".join(one.system for one in trained)
        raise UserError(f"Of the ensemble {systems} not every model attends; leave out {wanted}.")
    if wanted:
        raise UserError(f"The model is of the system {trained[0].system}, which does not attend; leave out {wanted}.")


def pieces(vocabulary: Vocabulary, tokens: Sequence[int]) -> list[str]:
    """The part of the decoded text that each token adds, blanks included, so that together they are the text.

    A later token may move the blanks before an earlier one (in vocabularies of format 1 a closing quote does), but no
    other character, so the text is cut by counting those.
    """
    text = vocabulary.decode(tokens)
    ends = [0, *(position for position, character in enumerate(text, 1) if character != " ")]
    counts = [len(vocabulary.decode(tokens[:end]).replace(" ", "")) for end in range(len(tokens) + 1)]
    cuts = [ends[count] for count in counts]
    return [text[start:end] for start, end in pairwise([*cuts[:-1], len(text)])]


def about_models(trained: Sequence[Trained], names: Sequence[str]) -> dict[str, str]:
    """What a set of sentences says of its models beside what its rows depend on, as strings: the names by which the
    user gave them, and the section ``data`` of each one's training, by which an evaluation knows what they have seen.
    """
    sections = [one.info.get("recipe", {}).get("data", {}) for one in trained]
    return {"models": json.dumps(list(names)), "trained_on": json.dumps(sections)}


def unusual(search: Mapping[str, Any]) -> dict[str, Any]:
    """Of a search's options those that are not as they are by default; the beam always."""
    usual = dataclasses.asdict(SearchOptions()) | {"attention": search.get("attention")}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in search.items()}
    return {name: value for name, value in given.items() if name == "beam" or value != usual[name]}
