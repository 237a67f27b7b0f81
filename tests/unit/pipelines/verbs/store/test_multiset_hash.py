"""The hash of a listing is the sum of those of rows and failures, in whatever order they come."""

from __future__ import annotations

import hashlib
import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.verbs.store.multiset_hash import MultisetHash, encoded

PAIRS = st.lists(st.tuples(st.text(), st.none() | st.text()), max_size=20)


def digest(*parts) -> str:
    made = MultisetHash()
    for part in parts:
        made.add(part)
    return made.hexdigest()


@given(PAIRS, st.randoms())
def test_order_and_parts_do_not_matter(pairs, chance):
    mixed = chance.sample(pairs, len(pairs))
    at = chance.randint(0, len(pairs))
    assert digest(pairs) == digest(mixed) == digest(mixed[:at], mixed[at:])


def test_each_pair_counts_as_often_as_it_is_there():
    pairs = [(f"{number}", None if number % 3 else "v") for number in range(2000)]
    random.Random(0).shuffle(pairs)
    others = [pairs[1:], [*pairs, pairs[0]], [(pairs[0][0], "w"), *pairs[1:]], []]
    assert len({digest(pairs), *map(digest, others)}) == 5


@given(st.tuples(st.text(), st.none() | st.text()), st.tuples(st.text(), st.none() | st.text()))
def test_no_two_pairs_are_the_same_bytes(one, other):
    assert (encoded(*one) == encoded(*other)) == (one == other)


def test_the_sum_is_of_shake128_modulo_2_to_the_16():
    blocks = [hashlib.shake_128((1).to_bytes(8, "little") + name + b"\0").digest(2048) for name in (b"a", b"b")]
    total = sum(np.frombuffer(block, "<u2").astype(np.uint64) for block in blocks) % 2**16
    assert digest([("a", None), ("b", None)]) == hashlib.sha256(total.astype("<u2").tobytes()).hexdigest()
