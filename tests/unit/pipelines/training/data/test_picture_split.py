"""Pictures of a split: their places in the store, and their captions as tokens."""

import numpy as np

from feature_store import Store
from pipelines.inputs.caption_formats import Captioned
from pipelines.training.data.picture_split import padded, positions_of, split_of
from rnncond.text import Vocabulary
from rnncond.text.special_tokens import BOS, EOS, PAD
from tests.worlds.training import PER_PART, make_world


def test_long_captions_are_cut_and_still_end():
    tokens = padded([[7, 8, 9], [5], []], max_length=2)
    assert tokens.tolist() == [[BOS, 7, 8, EOS], [BOS, 5, EOS, PAD], [BOS, EOS, PAD, PAD]]


def test_pictures_are_where_the_store_has_them_in_its_order(tmp_path):
    make_world(tmp_path, images=12)
    snapshot = Store(tmp_path / "store").open().snapshot()
    there = positions_of(snapshot)
    assert there.image_ids == snapshot.ids().to_pylist()
    assert there.row.tolist() == [n % PER_PART for n in range(12)]
    assert there.group.tolist() == [n // PER_PART for n in range(12)]

    texts = {"image011": ["a b c d", "e"], "image003": ["a"], "image999": ["b"]}
    examples = [Captioned(name, f"{name}.jpg", "train", tuple(captions)) for name, captions in texts.items()]
    split = split_of(there, examples, Vocabulary.train(["a b c d e"]), max_length=3)
    assert split.image_ids == ["image003", "image011"]
    assert (split.group.tolist(), split.row.tolist()) == (
        [3 // PER_PART, 11 // PER_PART],
        [3 % PER_PART, 11 % PER_PART],
    )
    assert (split.first.tolist(), split.references, split.cut) == ([0, 1, 3], [["a"], ["a b c d", "e"]], 1)
    assert np.array_equal((split.tokens != PAD).sum(1), [3, 5, 3])
