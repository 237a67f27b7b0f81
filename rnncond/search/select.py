"""The words that continue each hypothesis: the best of a beam, or samples.

Among equals the lower row, then the lower id wins.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rnncond.contract import Exact
from rnncond.search.options import SearchOptions

BLOCK = 64
"""Words of a block, of which the highest is found first."""

FEWEST = 4
"""Words of a row, at least, among which exact logits decide where those at hand are nearly right."""


class Choice(NamedTuple):
    """K hypotheses of each of A examples, all (A, K).

    Attributes:
        parents: which of the example's rows each one continues.
        words: the word that it adds.
        log_probs: of the whole hypothesis; minus infinity marks a place that holds none.
    """

    parents: Tensor
    words: Tensor
    log_probs: Tensor


def top_words(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each row of (N, V), highest first and the lower id first among equals: values and ids (N, k).

    ``torch.topk`` leaves the order of equals open, so equals within the k are put right, and rows with equals across
    the edge of the k (rare) are sorted in full. Which words of minus infinity fill the rest is left open: none of them
    can be chosen, and after an EOS that the rules force there is little else.
    """
    if k >= logits.shape[1]:
        return logits.sort(dim=1, descending=True, stable=True)
    if logits.device.type != "cpu":
        return top_by_key(logits, k)
    if k == 1:
        return best_words(logits)
    values, ids = highest(logits, k + 1)
    tied = (values[:, k - 1] == values[:, k]) & (values[:, k] > -torch.inf)
    ids = ids[:, :k].sort(dim=1).values
    values, order = logits.gather(1, ids).sort(dim=1, descending=True, stable=True)
    ids = ids.gather(1, order)
    if tied.any():
        full = logits[tied].sort(dim=1, descending=True, stable=True)
        values[tied], ids[tied] = full.values[:, :k], full.indices[:, :k]
    return values, ids


def top_by_key(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``top_words`` of (N, V) float32 in one sorting and without a question whose answer a GPU's owner must wait for:
    by 64 bits that have the value before and the id behind."""
    bits = (logits + 0.0).view(torch.int32)  # + 0.0 makes the two zeros equal
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    ids = torch.arange(logits.shape[1] - 1, -1, -1, device=logits.device)
    chosen = (ordered * 2**32 + ids).topk(k, dim=1).indices
    return logits.gather(1, chosen), chosen


def highest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``logits.topk(k)`` of (N, V), but that equals may be others: by the highest of each block of words, as no more
    than k blocks have what is among the k highest, and a block's maximum is found faster than by any sorting."""
    width = logits.shape[1]
    blocks = width // BLOCK
    if blocks <= 2 * k:
        values, ids = logits.topk(k, dim=1)
        return values, ids
    whole = blocks * BLOCK
    body = logits[:, :whole].unflatten(1, (blocks, BLOCK))
    chosen = body.amax(2).topk(k, dim=1).indices
    values = body.gather(1, chosen[..., None].expand(-1, -1, BLOCK)).flatten(1)
    values, places = torch.cat([values, logits[:, whole:]], 1).topk(k, dim=1)
    block, inside = places // BLOCK, places % BLOCK
    ids = chosen.gather(1, block.clamp(max=k - 1)) * BLOCK + inside
    return values, ids.where(block < k, places - k * BLOCK + whole)


def best_words(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The highest of each row of (N, V), the lower id among equals: values and ids (N, 1). By blocks, as ``highest``:
    torch's maximum with its place takes eight times as long as without."""
    width = logits.shape[1]
    blocks = width // BLOCK
    if blocks < 2:
        values, ids = logits.max(1, keepdim=True)
        return values, ids
    whole = blocks * BLOCK
    body = logits[:, :whole].unflatten(1, (blocks, BLOCK))
    _, block = body.amax(2).max(1, keepdim=True)
    values, inside = body.gather(1, block[..., None].expand(-1, -1, BLOCK))[:, 0].max(1, keepdim=True)
    ids = block * BLOCK + inside
    if whole < width:
        others, places = logits[:, whole:].max(1, keepdim=True)
        ids = torch.where(others > values, places + whole, ids)
        values = torch.maximum(values, others)
    return values, ids


def select_best(logits: Tensor, normaliser: Tensor, live: Tensor, open_slots: Tensor, width: int) -> Choice:
    """The ``open_slots`` (A,) most probable continuations of each example's rows.

    Args:
        logits: (N, V) with the rules applied; ``normaliser`` (N, 1) is their log-sum-exp from before.
        live: (A, W) log-probabilities of the rows, N = A * W.
        width: K of the result; places from ``open_slots`` on hold nothing.
    """
    values, words = top_words(logits, min(width, logits.shape[1]))
    if width == 1:
        log_probs = (values - normaliser + live).masked_fill(open_slots[:, None] < 1, -torch.inf)
        return Choice(torch.zeros_like(words), words, log_probs)
    return best_of(values - normaliser, words, live, open_slots, width)


def select_screened(
    logits: Tensor, normaliser: Tensor, live: Tensor, open_slots: Tensor, width: int, exact: Exact
) -> Choice:
    """``select_best`` by the ``exact`` values of the words that decide, where ``logits`` and so ``normaliser`` are
    nearly right.

    These words are the K + 1 best of each row by the logits. Their exact values take the place of their logits, in the
    normaliser of their row as well; the errors of all other words there, which are many and improbable, are small
    beside it.
    """
    values, words = highest(logits, min(max(width + 1, FEWEST), logits.shape[1]))
    right = exact(words).where(values > -torch.inf, -torch.inf)
    gains = ((right - normaliser).exp() - (values - normaliser).exp()).sum(1, keepdim=True)
    # What is left of a sum after a loss is positive; rounding may say otherwise.
    normaliser = normaliser + gains.clamp_min(-0.9).log1p()
    return best_of(right - normaliser, words, live, open_slots, width)


def best_of(log_probs: Tensor, words: Tensor, live: Tensor, open_slots: Tensor, width: int) -> Choice:
    """The choice among ``words`` (N, M) with ``log_probs`` after the rows ``live`` (A, W); of equals the first."""
    candidates = log_probs.view(*live.shape, -1) + live[..., None]
    values, order = candidates.flatten(1).sort(dim=1, descending=True, stable=True)
    values, order = values[:, :width], order[:, :width]
    chosen = words.view(len(live), -1).gather(1, order)
    return filled(order // candidates.shape[-1], chosen, values, open_slots, width)


def filled(parents: Tensor, words: Tensor, log_probs: Tensor, open_slots: Tensor, width: int) -> Choice:
    """A choice with ``width`` places from (A, K or less), best first, of which ``open_slots`` (A,) hold something."""
    if (missing := width - words.shape[1]) > 0:
        log_probs = F.pad(log_probs, (0, missing), value=-torch.inf)
        words, parents = F.pad(words, (0, missing)), F.pad(parents, (0, missing))
    places = torch.arange(width, device=words.device)
    return Choice(parents, words, log_probs.masked_fill(places >= open_slots[:, None], -torch.inf))


def select_samples(logits: Tensor, normaliser: Tensor, live: Tensor, draws: Tensor, options: SearchOptions) -> Choice:
    """A word for each of K rows of each example by ``draws`` (A, K), uniform in [0, 1).

    ``live`` is (A, W) with W = K, or W = 1 at the first word. The log-probabilities are the model's own.
    """
    width = live.shape[1]
    words = sample_words(logits, draws.reshape(len(logits), -1), options)
    log_probs = (logits.gather(1, words) - normaliser).view(draws.shape) + live
    parents = torch.arange(draws.shape[1], device=live.device).clamp(max=width - 1).expand(draws.shape)
    return Choice(parents, words.view(draws.shape), log_probs)


def sample_words(logits: Tensor, draws: Tensor, options: SearchOptions) -> Tensor:
    """Words (N, M) from the distributions of ``logits`` (N, V), where the cumulative probability passes ``draws``."""
    ids = None
    if options.top_k or options.top_p < 1:
        logits, ids = top_words(logits, options.top_k or logits.shape[1])
    # Sums in double: one in float32 loses the small probabilities that follow large ones. Exponentials need no double.
    probabilities = (logits / options.temperature).softmax(-1)
    cumulative = probabilities.cumsum(-1, dtype=torch.double)
    if options.top_p < 1:
        # A word stays while those before it hold less than top_p: the first always does.
        probabilities = probabilities.masked_fill(cumulative - probabilities >= options.top_p, 0)
        cumulative = probabilities.cumsum(-1, dtype=torch.double)
    chosen = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True).clamp(max=logits.shape[1] - 1)
    return chosen if ids is None else ids.gather(1, chosen)
