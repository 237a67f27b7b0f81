"""What the ledger says of a part."""

from __future__ import annotations

import pytest

from feature_store.parts import Part, from_table, to_table


def test_an_entry_survives_json():
    part = Part("é-1", 3, "é-1-ab", 5, 1, 10, "aa", 2, "bb", "a", "ż", (2, 3), 1.5, ("old",), 0.0)
    assert Part.from_json(part.to_json()) == part
    for text in (b"", b"{}", b"[]", part.to_json()[:-5]):
        with pytest.raises(ValueError):
            Part.from_json(text)


def test_a_base_gives_its_parts_again():
    part = Part("é-1", 3, "é-1-ab", 5, 1, 10, "aa", 2, "bb", "a", "ż", (2, 3), 1.5, ("old",), 0.0)
    empty = Part("b", 4, "b-cd", 0, 0, 0, "", 0, "", "", "", (), 2.5)
    assert from_table(to_table([part, empty])) == [part, empty]
    assert part.paths == ["parts/é-1-ab.parquet", "failures/é-1-ab.parquet"] and empty.paths == []
