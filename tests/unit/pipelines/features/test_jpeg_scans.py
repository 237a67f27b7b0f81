"""Scans counted, and JPEGs without their end marker: whether pixels are lacking."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from pipelines.features import decode as decoding
from pipelines.features.decode import DecodeError, decode
from tests.worlds.pictures import encoded, pixels


def of_many_scans(count: int) -> bytes:
    """A grey progressive JPEG whose last scan, which says that nothing changes, comes ``count`` times more."""
    data = encoded(Image.new("L", (64, 64), 128), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


def test_a_jpeg_of_too_many_scans_is_refused_before_they_are_read(monkeypatch):
    usual = of_many_scans(0).count(b"\xff\xda")
    assert 1 < usual < 20
    assert decode(of_many_scans(decoding.MAX_SCANS - usual)).image.size == (64, 64)
    one_more = of_many_scans(decoding.MAX_SCANS + 1 - usual)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("the scans were read"))
    with pytest.raises(DecodeError, match="a JPEG of 101 scans, more than 100"):
        decode(one_more)


def test_scans_are_not_counted_in_what_is_no_scan():
    """A thumbnail within a segment, films behind the picture, as telephones put there; one scan that holds all."""
    scan = b"\xff\xda" * 200
    plain = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG", quality=100)
    segment = b"\xff\xed" + (2 + len(scan)).to_bytes(2) + scan
    for data in (plain, of_many_scans(0)):
        assert decode(data[:2] + segment + data[2:] + scan).image.size == (64, 64)


# Without the end marker

WAYS = [
    {}, {"progressive": True}, {"restart_marker_blocks": 1}, {"restart_marker_rows": 1}, {"optimize": True},
    {"progressive": True, "restart_marker_blocks": 5}, {"quality": 100, "subsampling": 0},
]  # fmt: skip
RANDOM = np.random.default_rng(0).integers(0, 256, (41, 57, 3), np.uint8)
CONTENTS = {
    "noise": RANDOM,
    "smooth": np.asarray(Image.fromarray(RANDOM[:5, :6]).resize((57, 41), Image.Resampling.BICUBIC)),
    "white": np.full_like(RANDOM, 255),
    "grey": RANDOM[..., 0],
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_jpeg_without_its_end_marker_is_read_if_all_its_pixels_are_there(content, way):
    data = encoded(CONTENTS[content], "JPEG", **way)
    whole = pixels(data)
    for end in (b"", b"\xff", bytes(40), bytes(4000)):
        assert np.array_equal(pixels(data[:-2] + end), whole), end


WHOLE = {(content, number): encoded(CONTENTS[content], "JPEG", **WAYS[number]) for content in CONTENTS for number in
         range(len(WAYS))}  # fmt: skip


@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1))
def test_a_jpeg_that_is_cut_off_is_read_as_a_whole_or_refused(which, share):
    data = WHOLE[which]
    end = round(share * len(data))
    try:
        found = pixels(data[:end])
    except DecodeError:
        assert end < len(data) - 1
    else:
        assert np.array_equal(found, pixels(data))


def test_a_progressive_jpeg_that_lacks_its_last_scan_is_refused():
    """Every block is there, but not to its last bit."""
    data = encoded(CONTENTS["smooth"], "JPEG", progressive=True)
    without = data[: data.rindex(b"\xff\xda")]
    with pytest.raises(DecodeError, match="truncated"):
        decode(without)


def test_half_a_jpeg_is_refused_wherever_its_restart_markers_are():
    data = encoded(RANDOM, "JPEG", restart_marker_blocks=1)
    for end in range(data.index(b"\xff\xda") + 20, len(data) - 60, 7):
        with pytest.raises(DecodeError):
            decode(data[:end])
