"""Several models as one: a step, a memory and a state made of theirs, so that the search need not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rnncond.contract import Memory, State, Step

StepFunction = Callable[[Tensor, State, Memory], Step]


def join(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The memories, or the states, of several models in one."""
    return {f"{number}.{name}": tensor for number, part in enumerate(parts) for name, tensor in part.items()}


def split(joined: dict[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """What ``join`` put together."""
    parts: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for name, tensor in joined.items():
        number, _, own = name.partition(".")
        parts[int(number)][own] = tensor
    return parts


def ensemble(*steps: StepFunction) -> StepFunction:
    """One step that gives the mean of the models' probabilities, for a joined memory and state.

    The models must share a vocabulary. Attention is the mean where every model has it over the same places, else None.

    >>> memories = [model.encode(source) for model in models]
    >>> states = [model.init_state(memory) for model, memory in zip(models, memories)]
    >>> search(ensemble(*(model.step for model in models)), join(memories), join(states), options)
    """

    def step(tokens: Tensor, state: State, memory: Memory) -> Step:
        parts = zip(steps, split(state, len(steps)), split(memory, len(steps)), strict=True)
        results = [one(tokens, own_state, own_memory) for one, own_state, own_memory in parts]
        sizes = {result.logits.shape[-1] for result in results}
        if len(sizes) > 1:
            raise ValueError(f"an ensemble needs one vocabulary; the models have {sorted(sizes)} words")
        log_probs = torch.stack([result.logits.log_softmax(-1) for result in results])
        # Of the sum: the number of models shifts all logits alike, which no softmax sees.
        return Step(log_probs.logsumexp(0), join([result.state for result in results]), mean_attention(results))

    return step


def mean_attention(results: list[Step]) -> Tensor | None:
    weights = [result.attention for result in results if result.attention is not None]
    if len(weights) < len(results) or len({weight.shape for weight in weights}) > 1:
        return None
    return torch.stack(weights).mean(0)
