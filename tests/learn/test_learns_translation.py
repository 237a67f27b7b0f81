"""Each translator learns to say a string backwards, and gets strings right that it never saw."""

import pytest
import torch

from rnncond.contract import Source
from rnncond.losses import TeacherForcing
from rnncond.search import SearchOptions, search
from rnncond.systems import build
from rnncond.text.special_tokens import BOS, EOS, PAD, UNK

SYMBOLS, VOCAB = 8, UNK + 1 + 8
SIZES = {"source_vocab_size": VOCAB, "vocab_size": VOCAB, "embedding": 32, "hidden": 64, "dropout": 0.0}
ATTENDING = {**SIZES, "attention": 32, "readout": 32}
LUONG = {**ATTENDING, "cell": "lstm", "maxout": False}

CASES = {
    "encdec lstm": ("encdec", {**SIZES, "layers": 1}, 4),
    "encdec fed": ("encdec", {**SIZES, "layers": 1, "cell": "gru", "feed_context": True}, 4),
    "encdec_attention additive": ("encdec_attention", ATTENDING, 6),
    "encdec_attention dot": ("encdec_attention", {**LUONG, "score": "dot"}, 6),
    "encdec_attention general": ("encdec_attention", {**LUONG, "score": "general"}, 6),
    "encdec_attention concat": ("encdec_attention", {**LUONG, "score": "concat"}, 6),
    "encdec_bidirectional": ("encdec_bidirectional", ATTENDING, 6),
    "encdec_residual": ("encdec_residual", {**ATTENDING, "layers": 3}, 6),
    "gnmt": ("gnmt", {**SIZES, "attention": 32, "layers": 4}, 6),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_learns_to_reverse(name, learnt):
    system, config, longest = CASES[name]
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(2)
    model = TeacherForcing(build(system, config)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    updates = 2000
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.005, total_steps=updates)
    for _ in range(updates):
        source, targets = strings(64, longest, generator, held_out=False)
        sums = model(source, targets)
        (sums.objective / sums.words).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    source, targets = strings(500, longest, generator, held_out=True)
    right = exact(model.system.eval(), source, targets[:, 1:])
    learnt(name, right, f"500 strings of 1 to {longest} symbols, reversed, word for word")
    assert right >= 0.95


def strings(count: int, longest: int, generator: torch.Generator, held_out: bool) -> tuple[Source, torch.Tensor]:
    """Strings of 1 to ``longest`` symbols and EOS, and their reverse between BOS and EOS.

    Held out are those whose symbols sum to a multiple of five.
    """
    words = torch.randint(UNK + 1, VOCAB, (8 * count, longest), generator=generator)
    lengths = torch.randint(1, longest + 1, (8 * count, 1), generator=generator)
    places = torch.arange(longest)
    words = words.where(places < lengths, PAD)
    chosen = ((words.sum(1) % 5 == 0) == held_out).nonzero()[:count, 0]
    assert len(chosen) == count
    words, lengths = words[chosen], lengths[chosen]
    reverse = words.gather(1, (lengths - 1 - places).clamp(min=0)).where(places < lengths, PAD)
    source, targets = (ended(part, lengths) for part in (words, reverse))
    return Source(source, source != PAD), torch.cat([torch.full((count, 1), BOS), targets], 1)


def ended(words: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Words (N, T) with EOS after the last, (N, T + 1)."""
    return torch.nn.functional.pad(words, (0, 1)).scatter(1, lengths, EOS)


@torch.no_grad()
def exact(model, source: Source, labels: torch.Tensor) -> float:
    """The share of sources whose greedy translation is the label, word for word."""
    memory = model.encode(source)
    found = search(model.step, memory, model.init_state(memory), SearchOptions(max_length=labels.shape[1]))
    tokens = found.tokens[:, 0]
    tokens = torch.nn.functional.pad(tokens, (0, labels.shape[1] + 1 - tokens.shape[1]))[:, : labels.shape[1]]
    return (tokens == labels).all(1).float().mean().item()
