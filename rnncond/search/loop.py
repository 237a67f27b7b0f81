"""The only decoding loop. It knows a model by its step alone."""

from __future__ import annotations

import torch
from torch import Tensor

from rnncond.contract import Memory, State, exact_of, select
from rnncond.search.backpointers import Backpointers, Hypotheses
from rnncond.search.constraints import apply_constraints
from rnncond.search.ensemble import StepFunction
from rnncond.search.options import SearchOptions
from rnncond.search.scoring import coverage_penalty, length_penalty, normaliser, score_upper_bound
from rnncond.search.select import Choice, select_best, select_samples, select_screened
from rnncond.text.special_tokens import BOS, EOS

COMPACT_FRACTION = 0.25
"""Finished examples are left out once they are this part of all, so that all copies together cost few steps."""


CHECK_EVERY = 4
"""Steps of a GPU between two looks at what has finished: at each look the CPU waits for all that it has queued."""


@torch.no_grad()
def search(
    step: StepFunction,
    memory: Memory,
    state: State,
    options: SearchOptions,
    *,
    mask: Tensor | None = None,
) -> Hypotheses:
    """The best sentences for each of B conditions, or samples.

    Beam search as in Sutskever et al. 2014: of all continuations of an example's hypotheses the K most probable stay;
    one that ends in EOS leaves the beam, which shrinks by it. It ends when the beam is empty, or when no hypothesis
    in it can outrank the n best that have ended, which does not change the result.

    Args:
        step: (tokens (N,), state, memory) -> logits (N, V), state, attention; the logits are the search's to change.
        memory: of B examples; neither changed nor expanded.
        state: of B rows, one per example.
        mask: (B, S or L) bool, True on real places; the coverage penalty leaves the others out.

    Raises:
        ValueError: a coverage penalty is asked of a step without attention.
    """
    some = next(iter((state | memory).values()))
    beams = _Beams(len(some), some.device, mask, options)
    words = torch.full((len(some),), BOS, device=some.device)
    for t in range(options.max_length + 1):
        logits, state, attention = step(words, state, memory)
        choice = beams.choose(logits, t)
        beams.record(t, choice, attention)
        kept = beams.unfinished(t)
        if len(kept) == 0:
            break
        if len(kept) < len(choice.words):
            memory = select(memory, kept)
        origins = beams.advance(t, choice, kept)
        if origins is not None:
            state = select(state, origins)
        words = choice.words[kept].flatten()
    return beams.backpointers.hypotheses(options.returned)


class _Beams:
    """The beams of the A unfinished examples, and their N = A * W rows; W is 1 at first, then K.

    Attributes:
        examples: tensors with A on axis 0: index (A,) in the batch, open_slots (A,) places left in the beam, best
            (A, n) scores of what ended; mask and draws where used.
        rows: tensors with N on axis 0, each where a rule or a score needs it: history (N, t) words so far, coverage
            (N, L).
        live: (A, W) log-probability of each row, minus infinity where there is none.
        origins: (A, K) the row that each new place continues.
    """

    def __init__(self, count: int, device: torch.device, mask: Tensor | None, options: SearchOptions) -> None:
        self.options, self.asking_waits = options, device.type != "cpu"
        self.backpointers = Backpointers(count, options.width, device)
        self.examples = {
            "index": torch.arange(count, device=device),
            "open_slots": torch.full((count,), options.width, device=device),
            "best": torch.full((count, options.returned), -torch.inf, device=device),
        }
        if mask is not None:
            self.examples["mask"] = mask
        if options.samples:
            # Drawn on the CPU, whatever the device: the same seed gives the same sentences.
            generator = torch.Generator().manual_seed(options.seed)
            draws = torch.rand(count, options.width, options.max_length + 1, generator=generator)
            self.examples["draws"] = draws.to(device)
        self.rows: dict[str, Tensor] = {}
        if options.no_repeat_ngram:
            self.rows["history"] = torch.empty(count, 0, dtype=torch.long, device=device)
        self.live = torch.zeros(count, 1, device=device)

    def choose(self, logits: Tensor, t: int) -> Choice:
        """The K continuations of each example, from ``logits`` (N, V)."""
        exact, logits = exact_of(logits), logits.float()
        total = normaliser(logits)
        apply_constraints(logits, t, self.rows.get("history"), self.options)
        if self.options.samples:
            return select_samples(logits, total, self.live, self.examples["draws"][..., t], self.options)
        open_slots = self.examples["open_slots"]
        if exact is not None:
            return select_screened(logits, total, self.live, open_slots, self.options.width, exact)
        return select_best(logits, total, self.live, open_slots, self.options.width)

    def record(self, t: int, choice: Choice, attention: Tensor | None) -> None:
        """Keep the back-pointers of step ``t``, and take what ended out of the beam."""
        index, options = self.examples["index"], self.options
        self.backpointers.record(index, choice.words, choice.parents)
        first = torch.arange(len(index), device=index.device) * self.live.shape[1]
        self.origins = first[:, None] + choice.parents
        if options.attention and attention is not None:
            self.backpointers.record_attention(index, attention[self.origins])
        if options.coverage_beta:
            self.add_coverage(attention)

        ended = (choice.words == EOS) & (choice.log_probs > -torch.inf)
        self.live = choice.log_probs.masked_fill(ended, -torch.inf)
        if self.asking_waits or ended.any():
            log_probs = choice.log_probs.masked_fill(~ended, -torch.inf)
            scores = self.score(log_probs, t + 1)
            self.backpointers.record_ends(index, scores, log_probs)
            self.examples["open_slots"] = self.examples["open_slots"] - ended.sum(1)
            best = torch.cat((self.examples["best"], scores), dim=1).sort(dim=1, descending=True).values
            self.examples["best"] = best[:, : options.returned]
        if not options.samples:
            settled = self.examples["best"][:, -1] >= score_upper_bound(self.live, options)
            self.live = self.live.masked_fill(settled[:, None], -torch.inf)

    def add_coverage(self, attention: Tensor | None) -> None:
        if attention is None:
            raise ValueError("coverage_beta needs attention, and this system has none; set it to 0")
        self.rows["coverage"] = self.rows.get("coverage", 0) + attention.float()

    def score(self, log_probs: Tensor, length: int) -> Tensor:
        """Scores of hypotheses of ``length`` with ``log_probs`` (A, K)."""
        scores = log_probs / length_penalty(length, self.options)
        if self.options.coverage_beta:
            coverage = self.rows["coverage"][self.origins]
            scores = scores + coverage_penalty(coverage, self.examples.get("mask"), self.options)
        return scores

    def unfinished(self, t: int) -> Tensor:
        """Places of the examples to keep: all, or the unfinished ones alone once enough have finished."""
        working = (self.live > -torch.inf).any(1)
        if self.asking_waits and (t + 1) % CHECK_EVERY:
            return torch.arange(len(working), device=working.device)
        count = int(working.sum())
        if count > len(working) * (1 - COMPACT_FRACTION):
            return torch.arange(len(working), device=working.device)
        return working.nonzero().squeeze(1)

    def advance(self, t: int, choice: Choice, kept: Tensor) -> Tensor | None:
        """Keep the examples ``kept``. Returns the row that each new row continues; None where all stay put."""
        dropped = len(kept) < len(self.live)
        # One greedy row, or samples once each has its row: every hypothesis continues its own place.
        in_place = self.options.width == 1 or (self.options.samples > 0 and t > 0)
        origins = None
        if dropped or not in_place:
            origins = self.origins[kept].flatten()
            self.rows = select(self.rows, origins)
        if dropped:
            self.examples, self.live = select(self.examples, kept), self.live[kept]
        if "history" in self.rows:
            self.rows["history"] = torch.cat((self.rows["history"], choice.words[kept].view(-1, 1)), dim=1)
        return origins
