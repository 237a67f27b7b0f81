"""What memory and time pictures take that lie within the limits, several at once, broken, or made to be slow."""

import gc
import io
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile

from pipelines.features import decode as images
from pipelines.features import featurizer
from pipelines.features.decode import DecodeError, Preprocess, decode
from pipelines.threads import Budget

PREPROCESS = Preprocess((8, 8), (8, 8), "bilinear", (0.5,) * 3, (0.5,) * 3)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def row_of(file) -> dict:
    return {"image_id": file.name, "uri": str(file), "version": None}


class Counting:
    """Notes how many pixels of pictures are open at once, and keeps each open until others had time to come."""

    needed = 8

    def __init__(self):
        self.lock, self.open, self.most, self.done = threading.Lock(), 0, 0, 0

    def __call__(self, image):
        with self.lock:
            self.open += image.width * image.height
            self.most = max(self.most, self.open)
        threading.Event().wait(0.02)
        with self.lock:
            self.open -= image.width * image.height
            self.done += 1
        return PREPROCESS(image)


@pytest.mark.parametrize(("budget", "most"), [(3 * 4000, 3 * 4000), (5000, 4000), (100, 4000)])
def test_threads_hold_no_more_pixels_than_the_budget_or_one_picture(tmp_path, monkeypatch, budget, most):
    monkeypatch.setattr(images, "BUDGET", Budget(budget))
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (80, 50)), "PNG"))
    counting = Counting()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(featurizer.load, [row_of(tmp_path / "a.png")] * 24, [counting] * 24))
    assert (counting.open, counting.most, counting.done) == (0, most, 24)
    assert images.BUDGET.free == budget


def test_a_broken_picture_gives_back_what_it_took(monkeypatch):
    monkeypatch.setattr(images, "BUDGET", Budget(4000))
    data = encoded(Image.effect_noise((80, 50), 90), "PNG")
    for read in (decode, lambda data: images.opened(data).__enter__()):
        with pytest.raises(DecodeError):
            read(data[: len(data) // 2])
    assert images.BUDGET.free == 4000


@pytest.mark.parametrize(
    ("kind", "options", "needed", "taken"),
    [
        ("PNG", {}, 10, 800 * 400),
        ("JPEG", {}, None, 800 * 400),
        ("JPEG", {}, 50, 200 * 100),  # decoded at a quarter
        ("JPEG", {"progressive": True}, 50, 800 * 400),  # put together at full size, then made small
    ],
)
def test_what_counts_is_what_decoding_holds(kind, options, needed, taken, monkeypatch):
    asked = []

    class Noting(Budget):
        def take(self, amount):
            asked.append(amount)
            return super().take(amount)

    monkeypatch.setattr(images, "BUDGET", Noting(10**6))
    decode(encoded(Image.effect_noise((800, 400), 50).convert("RGB"), kind, **options), needed)
    assert asked == [taken]


def test_what_is_large_does_not_wait_for_as_long_as_small_ones_come():
    budget, order = Budget(10), []
    held = budget.take(6)
    held.__enter__()

    def ask(amount):
        with budget.take(amount):
            order.append(amount)

    threads = []
    for place, amount in enumerate((10, 1, 2)):  # 1 and 2 would fit now
        threads.append(threading.Thread(target=ask, args=[amount], daemon=True))
        threads[-1].start()
        while len(budget.waiting) <= place:
            pass
    assert order == []
    held.__exit__(None, None, None)
    for thread in threads:
        thread.join(30)
    assert order[0] == 10 and sorted(order) == [1, 2, 10]
    assert budget.free == 10 and not budget.waiting


def test_an_interrupted_wait_holds_up_nobody(monkeypatch):
    budget = Budget(10)

    def interrupt(predicate):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(budget.changed, "wait_for", interrupt)
        with pytest.raises(KeyboardInterrupt), budget.take(10):
            pass
    assert budget.free == 10 and not budget.waiting


def test_what_failed_keeps_neither_its_pixels_nor_its_file_until_its_turn(tmp_path):
    size = (1237, 811)
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)), "PNG")
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    error = featurizer.attempt(row_of(tmp_path / "half.png"), PREPROCESS)
    gc.collect()
    assert isinstance(error, DecodeError) and "broken picture" in str(error)
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)
    assert not [found for found in gc.get_objects() if isinstance(found, Image.Image) and found.size == size]


def of_many_scans(count: int) -> bytes:
    """A grey progressive JPEG whose last scan, which says that nothing changes, comes ``count`` times more."""
    data = encoded(Image.new("L", (64, 64), 128), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


def test_a_jpeg_of_too_many_scans_is_refused_before_they_are_read(monkeypatch):
    usual = of_many_scans(0).count(b"\xff\xda")
    assert 1 < usual < 20
    assert decode(of_many_scans(images.MAX_SCANS - usual)).image.size == (64, 64)
    one_more = of_many_scans(images.MAX_SCANS + 1 - usual)
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


TAKES = """
import sys
from pathlib import Path
from pipelines.features.decode import decode
def peak():  # not ru_maxrss, which begins at what this process's parent has
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
small, large = (Path(name).read_bytes() for name in sys.argv[1:])
decode(small)
before = peak()
picture = decode(large)
print((peak() - before) / (picture.width * picture.height))
"""


@pytest.mark.parametrize(
    ("mode", "kind", "options", "most"),
    [
        ("RGB", "JPEG", {}, 4),
        ("I;16", "PNG", {}, 8),
        ("RGBA", "PNG", {}, 8),
        ("LA", "PNG", {}, 8),
        ("CMYK", "JPEG", {"progressive": True}, 12),
        ("RGB", "WEBP", {}, 17),
        ("RGB", "JPEG2000", {}, 20),
    ],
)
def test_memory_is_as_said(tmp_path, mode, kind, options, most):
    """Bytes a pixel, beside the file's own."""
    for name, size in {"small": (50, 40), "large": (5000, 4000)}.items():
        Image.new(mode, size).save(tmp_path / name, kind, **options)
    names = [str(tmp_path / name) for name in ("small", "large")]
    done = subprocess.run([sys.executable, "-c", TAKES, *names], capture_output=True, text=True, check=True)
    assert 3 < float(done.stdout) < 1.15 * most
