"""How good sentences are, as rewards of training: CIDEr-D, BLEU and GLEU of token ids, for a whole batch at once.

A reward takes ``hypotheses`` (B, K, T), K sentences of each of B examples, and ``references`` (B, R, U). Both are
words, EOS and then PAD, without BOS; a reference of PAD alone is none. It gives (B, K), 0 where an example has no
reference.

EOS counts as a word, as is usual in self-critical training: without it a sentence that breaks off (``a man on a``) is
rewarded like one that ends, and training learns to break off. Scores of finished work (``rnncond evaluate``) leave EOS
out and cut sentences into words in their own way, so that their numbers differ from rewards.

No n-gram is looked up in a dictionary: with sentences of some tens of words it is fastest to compare all pairs of
places. That two n-grams are equal follows from the words of the pair of places and from the n-grams one shorter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rnncond.text.special_tokens import PAD

Reward = Callable[[Tensor, Tensor], Tensor]

ORDER = 4
"""The longest n-grams that count."""
TINY = 1e-12
"""In place of the product of two norms of which one is zero; what it divides is zero too."""


def gleu(hypotheses: Tensor, references: Tensor) -> Tensor:
    """GLEU (Wu et al. 2016, section 5): the smaller of precision and recall of all 1- to 4-grams together; in [0, 1].

    The paper has one reference; of several the most favourable counts.
    """
    matched = torch.stack([clipped for clipped, _ in clipped_matches(hypotheses, references)]).sum(0)
    own, theirs = (torch.stack([*ngram_totals(tokens)]).sum(0) for tokens in (hypotheses, references))
    return (matched / torch.maximum(own[..., None], theirs[:, None]).clamp(min=1)).amax(2)


def bleu(hypotheses: Tensor, references: Tensor) -> Tensor:
    """Sentence BLEU (Papineni et al. 2002), in [0, 1]; several references count together.

    Smoothed as sacrebleu's ``sentence_bleu`` does by default: the k-th order without a match counts 1 / 2^k matches
    (Chen and Cherry 2014, method 3), orders longer than the sentence are left out, and nothing in common gives 0.
    """
    lengths, total = sentence_lengths(hypotheses), hypotheses.new_zeros(hypotheses.shape[:2], dtype=torch.float)
    half, orders, any_match = torch.ones_like(total), torch.zeros_like(total), torch.zeros_like(total)
    for (_, matched), size in zip(clipped_matches(hypotheses, references), ngram_totals(hypotheses), strict=True):
        half = torch.where(matched == 0, half / 2, half)
        precision = torch.where(matched == 0, half, matched) / size.clamp(min=1)
        total += torch.where(size > 0, precision.log(), 0.0)
        orders += size > 0
        any_match += matched
    reference_lengths = sentence_lengths(references)[:, None]
    # The closest length, the shorter of two equally close: a distance of 2 |a - b| + (1 if longer) orders so.
    distance = 2 * (reference_lengths - lengths[..., None]).abs() + (reference_lengths > lengths[..., None])
    distance = distance.masked_fill(reference_lengths == 0, torch.iinfo(distance.dtype).max)
    closest = reference_lengths.expand_as(distance).gather(2, distance.argmin(2, True))
    brevity = (1 - closest[..., 0] / lengths.clamp(min=1)).clamp(max=0)
    return torch.where(any_match > 0, (brevity + total / orders.clamp(min=1)).exp(), 0.0)


class CiderD:
    """CIDEr-D (Vedantam, Zitnick and Parikh 2015): n-grams weighed by how few pictures have them.

    Mean over n = 1..4 and over the references of 10 exp(-(difference of lengths)^2 / (2 * 6^2)) times the cosine of
    tf-idf vectors, counts clipped to the reference's; between 0 and 10. An n-gram that no picture has counts as if
    one had it.

    Args:
        tokens: (C, T) the references of all training examples: words, EOS, PAD, without BOS. On the device of the
            sentences that will be scored.
        example: (C,) which example each belongs to, in ascending order.
    """

    SIGMA = 6.0

    def __init__(self, tokens: Tensor, example: Tensor) -> None:
        documents = len(example.unique_consecutive())
        if not documents:
            raise ValueError("there are no references, so no n-gram has a document frequency")
        self.unseen = math.log(documents)
        self.tables = [
            frequencies(codes[real], example[:, None].expand(real.shape)[real])
            for codes, real in zip(ngram_codes(tokens), real_ngrams(tokens), strict=True)
        ]

    def __call__(self, hypotheses: Tensor, references: Tensor) -> Tensor:
        own_length, reference_length = sentence_lengths(hypotheses)[..., None], sentence_lengths(references)[:, None]
        cosines = torch.zeros((), device=hypotheses.device)
        parts = zip(
            self.squares(hypotheses),
            occurrences(hypotheses, hypotheses),
            occurrences(hypotheses[:, :, None], references[:, None]),
            strict=True,
        )
        for (square, own, shared), reference_norm in zip(parts, self.norms(references), strict=True):
            # A sum over distinct n-grams is one over places, each with 1 / (times that its n-gram is there).
            norm = (own * square).sum(-1).sqrt()
            product = ((square / own)[:, :, None] * torch.minimum(own[:, :, None], shared) * shared).sum(-1)
            cosines = cosines + product / (norm[..., None] * reference_norm[:, None]).clamp(min=TINY)
        similarity = cosines / ORDER * (-((own_length - reference_length) ** 2) / (2 * self.SIGMA**2)).exp()
        has_reference = reference_length > 0
        return 10 * (similarity * has_reference).sum(2) / has_reference.sum(2).clamp(min=1)

    def norms(self, tokens: Tensor) -> Iterator[Tensor]:
        """Lengths of the tf-idf vectors for n = 1..4: (..., T) to (...)."""
        for square, own in zip(self.squares(tokens), occurrences(tokens, tokens), strict=True):
            yield (own * square).sum(-1).sqrt()

    def squares(self, tokens: Tensor) -> Iterator[Tensor]:
        """idf^2 of the n-gram that begins at each place, zero where none does: (..., T - n + 1) for n = 1..4."""
        for (known, frequency), codes, real in zip(self.tables, ngram_codes(tokens), real_ngrams(tokens), strict=True):
            idf = torch.full(codes.shape, self.unseen, device=tokens.device)
            if len(known):
                place = torch.searchsorted(known, codes).clamp(max=len(known) - 1)
                idf = torch.where(known[place] == codes, self.unseen - frequency[place], idf)
            yield idf.square() * real


def frequencies(codes: Tensor, example: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct ``codes``, ascending, and the logarithm of how many examples have each."""
    codes, order = codes.sort(stable=True)
    example = example[order]
    other = torch.ones_like(codes, dtype=torch.bool)
    other[1:] = codes[1:] != codes[:-1]
    fresh = other.clone()
    fresh[1:] |= example[1:] != example[:-1]
    return codes[other], torch.bincount(other.cumsum(0)[fresh] - 1).float().log()


FACTORS = (0x2545F4914F6CDD1D, 0x5851F42D4C957F2D, 0x369DEA0F31A53F85, 0x14057B7EF767814F)
"""Odd numbers without pattern. The code of an n-gram is the sum of its ids times these, modulo 2^64: that two n-grams
of a corpus share a code is unlikely, and then costs two frequencies that are a little too high."""


def ngram_codes(tokens: Tensor) -> Iterator[Tensor]:
    """A number for the n-gram that begins at each place: (..., T) to (..., T - n + 1) for n = 1..4."""
    codes = tokens * FACTORS[0]
    for n in range(1, ORDER + 1):
        yield codes
        if n < ORDER:
            codes = codes[..., :-1] + tokens[..., n:] * FACTORS[n]


def real_ngrams(tokens: Tensor) -> Iterator[Tensor]:
    """Where n words begin, for n = 1..4: (..., T - n + 1) bool."""
    return ((tokens != PAD)[..., n:] for n in range(ORDER))


def sentence_lengths(tokens: Tensor) -> Tensor:
    """Words of each sentence, EOS included: (..., T) to (...)."""
    return (tokens != PAD).sum(-1)


def ngram_totals(tokens: Tensor) -> Iterator[Tensor]:
    """n-grams of each sentence for n = 1..4: (..., T) to (...)."""
    return (real.sum(-1) for real in real_ngrams(tokens))


def occurrences(left: Tensor, right: Tensor) -> Iterator[Tensor]:
    """How often ``right`` has the n-gram that begins at each place of ``left``, for n = 1..4.

    (..., T) and (..., U) to (..., T - n + 1), leading axes broadcast; meaningless where ``left`` has no n words left.
    """
    pair = same = left[..., :, None] == right[..., None, :]
    for n in range(1, ORDER + 1):
        yield same.sum(-1)
        same = same[..., :-1, :-1] & pair[..., n:, n:]


def clipped_matches(hypotheses: Tensor, references: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """n-grams of ``hypotheses`` that are matched, counts clipped, for n = 1..4: in each reference, and in any of them.

    (B, K, R) and (B, K), floating point.
    """
    parts = zip(
        occurrences(hypotheses, hypotheses),
        occurrences(hypotheses[:, :, None], references[:, None]),
        real_ngrams(hypotheses),
        strict=True,
    )
    for own, shared, real in parts:
        weight = real / own
        clipped = (torch.minimum(own[:, :, None], shared) * weight[:, :, None]).sum(-1)
        yield clipped, (torch.minimum(own, shared.amax(2)) * weight).sum(-1)
