"""Objectives beyond teacher forcing: scheduled sampling and self-critical sequence training.

Both are modules with one forward pass, like ``rnncond.losses.TeacherForcing``, whose gradients an optimizer divides by
the words of the batch. What is drawn comes from torch's generators, so ``torch.manual_seed`` repeats a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rnncond.contract import Memory, Source, System, draw, per_row
from rnncond.losses import Sums, TeacherForcing, cross_entropy, teacher_force
from rnncond.objective_options import Baseline, check_samples
from rnncond.rewards import Reward
from rnncond.search import SearchOptions, search
from rnncond.text.special_tokens import BOS, PAD, UNK

BLOCKED = (PAD, BOS, UNK)
"""Words that ``search`` never chooses."""


class Diverged(ArithmeticError):
    """Training has diverged: the system's probabilities are not a number."""


class ScheduledSampling(TeacherForcing):
    """Scheduled sampling (Bengio et al. 2015): an input word is the reference with a given probability, else sampled.

    A word is sampled from the system after the words fed so far, sampled ones included, token by token and without
    gradient; then the sentence with the words so mixed is learnt like any other, all steps at once. The paper samples
    and learns in the same pass, which differs by the dropout of the two passes alone: sampling a word has no gradient
    there either.
    """

    def forward(self, source: Source, tokens: Tensor, reference_probability: float = 1.0) -> Sums:
        """Score ``tokens`` (N, T + 1): BOS, words, EOS, PAD, fed the reference words with this probability."""
        memory = self.encode(source)
        inputs = tokens[:, :-1] if reference_probability >= 1 else self.mixed(memory, tokens, reference_probability)
        return self.sums(memory, inputs, tokens[:, 1:])

    @torch.no_grad()
    def mixed(self, memory: Memory, tokens: Tensor, reference_probability: float) -> Tensor:
        """The words to feed, (N, T); BOS and what follows the last label stay as they are."""
        inputs = tokens[:, :-1].clone()
        own = (torch.rand(inputs.shape, device=inputs.device) >= reference_probability) & (tokens[:, 1:] != PAD)
        state = {name: per_row(part, len(inputs)) for name, part in self.system.init_state(memory).items()}
        for t in range(inputs.shape[1] - 1):
            logits, state, _ = self.system.step(inputs[:, t], state, memory)
            drawn = draw(logits.float().softmax(-1))
            inputs[:, t + 1] = torch.where(own[:, t + 1], drawn, inputs[:, t + 1])
        return inputs


class Rewarded(NamedTuple):
    """Scalars over a batch.

    Attributes:
        objective: what to minimise once divided by the words of the batch's references.
        loss: -log p of the references; None unless they are learnt as well.
        reward: of the sampled sentences, the mean of each example, summed.
        baseline: summed likewise.
        examples: how many have a reference.
    """

    objective: Tensor
    loss: Tensor | None
    reward: Tensor
    baseline: Tensor
    examples: Tensor


class SelfCritical(nn.Module):
    """Self-critical sequence training (Rennie et al. 2017): sampled sentences w_k that beat the baseline b gain.

        objective = -sum_examples R mean_k (r(w_k) - b) log p(w_k)

    R is the example's number of references, so that it weighs as in cross-entropy. It is REINFORCE: the expected
    gradient is that of minus the expected reward.

    The policy is what ``search`` samples from: never UNK, PAD or BOS, and EOS after ``max_length`` words, which is no
    choice and has no gradient. Sampling and gradient are both without dropout: the samples then come from the very
    distribution whose gradient is taken, and it is the one that is used in the end. No regulariser is added.

    Args:
        reward: see ``rnncond.rewards``; of an example without reference it must be 0.
        samples: K, sentences drawn for each example.
        baseline: ``greedy``, the reward of the greedy sentence (the paper), or ``others``, the mean reward of the other
            K - 1 samples, which needs no search of its own (Luo 2020).
        max_length: most words of a sampled sentence before EOS.
        cross_entropy: the weight of the cross-entropy of the references, with dropout (of words, too), smoothing and
            the system's regulariser, added to the objective (Wu et al. 2016, equation 9: 0.017).
    """

    def __init__(
        self,
        system: System,
        reward: Reward,
        *,
        samples: int = 5,
        baseline: Baseline = "greedy",
        max_length: int = 20,
        cross_entropy: float = 0.0,
        smoothing: float = 0.0,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_samples(samples, baseline)
        self.system, self.reward, self.baseline = system, reward, baseline
        self.samples, self.max_length, self.cross_entropy = samples, max_length, cross_entropy
        self.forcing = TeacherForcing(system, smoothing, word_dropout)

    def forward(self, source: Source, tokens: Tensor) -> Rewarded:
        """Sample for each example, and compare with its references.

        Args:
            tokens: (N, T + 1) BOS, words, EOS, PAD: all references that the reward is to see, N / B of each example;
                a row of PAD alone is none.
        """
        references = tokens[:, 1:].unflatten(0, (len(source.values), -1))
        with without_dropout(self.system):
            memory = self.system.encode(source)
            hypotheses = self.decode(memory, samples=self.samples, seed=int(torch.randint(2**62, ())))
            rewards = self.reward(hypotheses, references)
            baseline = self.baseline_rewards(memory, rewards, references)
            log_probs = self.log_probs(memory, hypotheses)
        reference_counts = (references != PAD).any(2).sum(1)
        objective = -(reference_counts * ((rewards - baseline) * log_probs).mean(1)).sum()
        loss = None
        if self.cross_entropy:
            forced = self.forcing(source, tokens)
            objective, loss = objective + self.cross_entropy * forced.objective, forced.loss
        return Rewarded(objective, loss, rewards.mean(1).sum(), baseline.mean(1).sum(), (reference_counts > 0).sum())

    def decode(self, memory: Memory, **options: Any) -> Tensor:
        """Sentences (B, K, T) of the system: words, EOS, PAD.

        Raises:
            Diverged: no sentence has a probability.
        """
        limits = SearchOptions(max_length=self.max_length, **options)
        tokens = search(self.system.step, memory, self.system.init_state(memory), limits).tokens
        if not tokens.shape[2]:
            raise Diverged("no word has a probability that is a number")
        return tokens

    def baseline_rewards(self, memory: Memory, rewards: Tensor, references: Tensor) -> Tensor:
        """The baseline of each sample, (B, 1) or (B, K)."""
        if self.baseline == "greedy":
            return self.reward(self.decode(memory), references)
        return (rewards.sum(1, keepdim=True) - rewards) / (self.samples - 1)

    def log_probs(self, memory: Memory, hypotheses: Tensor) -> Tensor:
        """log p of sampled sentences (B, K, T) under the policy, with gradient: (B, K)."""
        chosen = hypotheses.flatten(0, 1)[:, : self.max_length]
        begin = torch.full_like(chosen[:, :1], BOS)
        forced = teacher_force(self.system, memory, torch.cat([begin, chosen[:, :-1]], 1), chosen)
        logits = forced.logits.index_fill(1, torch.tensor(BLOCKED, device=hypotheses.device), -torch.inf)
        _, log_probs = cross_entropy(logits, forced.labels)
        return forced.spread(log_probs).sum(1).view(hypotheses.shape[:2])


@contextmanager
def without_dropout(system: nn.Module) -> Iterator[None]:
    """The system in evaluation mode while the block runs, but with gradients: cuDNN gives an RNN none in that mode."""
    modes = {module: module.training for module in system.modules()}
    try:
        for module in modes:
            module.training = isinstance(module, nn.RNNBase)
        yield
    finally:
        for module, training in modes.items():
            module.training = training
