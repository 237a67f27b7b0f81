"""Tar shards: every member is listed and read as what it is, and a broken shard says where it breaks."""

import gc
import io
import re
import tarfile
import threading
from itertools import count, islice
from types import SimpleNamespace

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import UserError
from pipelines.inputs import fetch, members, tar_shards
from pipelines.inputs.fetch import ReadError
from pipelines.inputs.listing import SHARDS_AHEAD, Listing
from pipelines.inputs.members import Member
from tests.worlds import hostile
from tests.worlds.listings import listed

CONTENTS = {
    "000.jpg": b"first",
    "000.json": b"{}",
    "deep/001.png": b"",
    "../../etc/002.jpg": b"x" * 1500,
    "/003.jpg": b"y",
}


def tar_of(contents=CONTENTS, mtime: int = 5, kind: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as tar:
        for name, data in contents.items() if isinstance(contents, dict) else contents:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), mtime
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_are_addressed_and_read(tmp_path, kind):
    (tmp_path / "a.tar").write_bytes(tar_of(kind=kind))
    rows, ignored = listed(tmp_path / "a.tar")
    assert [row["image_id"] for row in rows] == [
        "a.tar/000.jpg", "a.tar/deep/001.png", "a.tar/../../etc/002.jpg", "a.tar//003.jpg"
    ]  # fmt: skip
    assert ignored == 1
    assert [fetch.read(row["uri"], row["version"]) for row in rows] == [
        ("5-5", b"first"), ("0-5", b""), ("1500-5", b"x" * 1500), ("1-5", b"y")
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_only_a_members_own_bytes_are_read(tmp_path, monkeypatch):
    (tmp_path / "a.tar").write_bytes(tar_of())
    rows, _ = listed(tmp_path / "a.tar")
    read = []
    monkeypatch.setattr(fetch, "read_stretch", lambda filesystem, path, address, version: read.append(address))
    fetch.read(rows[0]["uri"])
    data = (tmp_path / "a.tar").read_bytes()
    offset, size = map(int, read[0].removeprefix("bytes://").split("+"))
    assert data[offset : offset + size] == b"first"


def test_a_glob_of_shards(tmp_path):
    for name in ("s/a.tar", "s/b.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(tar_of({"x.jpg": name.encode()}))
    rows, _ = listed(tmp_path / "s" / "*.tar")
    assert {row["image_id"]: fetch.read(row["uri"])[1] for row in rows} == {
        "a.tar/x.jpg": b"s/a.tar", "b.tar/x.jpg": b"s/b.tar"
    }  # fmt: skip


def test_a_name_that_is_there_twice_stands_for_two(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of([("x.jpg", b"one"), ("x.jpg", b"two"), ("X.jpg", b"three")]))
    rows, _ = listed(tmp_path / "a.tar")
    assert {row["image_id"]: fetch.read(row["uri"])[1] for row in rows} == {
        "a.tar/x.jpg": b"one", "a.tar/x.jpg (2)": b"two", "a.tar/X.jpg": b"three"
    }  # fmt: skip


def test_a_name_that_looks_like_a_second_one(tmp_path):
    """An id stands for one picture, whatever the names and in whatever order."""
    names = ["x.jpg", "x.jpg", "x.jpg (2)", "x.jpg", "y.jpg (2)", "y.jpg", "y.jpg"]
    (tmp_path / "a.tar").write_bytes(tar_of([(name, str(at).encode()) for at, name in enumerate(names)]))
    rows, _ = listed(tmp_path / "a.tar")
    assert [row["image_id"].removeprefix("a.tar/") for row in rows] == [
        "x.jpg", "x.jpg (2)", "x.jpg (2) (2)", "x.jpg (3)", "y.jpg (2)", "y.jpg", "y.jpg (3)"
    ]  # fmt: skip
    assert [fetch.read(row["uri"])[1] for row in rows] == [str(at).encode() for at in range(7)]


def test_links_are_what_they_lead_to(tmp_path):
    """What they lead to need not be named as a picture."""
    links = [
        (tarfile.LNKTYPE, "hard.jpg", "deep/data"), (tarfile.SYMTYPE, "deep/soft.jpg", "data"),
        (tarfile.SYMTYPE, "again.jpg", "./deep/soft.jpg"), (tarfile.SYMTYPE, "out.jpg", "../deep/data"),
        (tarfile.LNKTYPE, "gone.jpg", "nowhere"), (tarfile.FIFOTYPE, "pipe.jpg", ""),
        (tarfile.DIRTYPE, "folder.jpg", ""), (tarfile.SYMTYPE, "up", ".."),
    ]  # fmt: skip
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        data = tarfile.TarInfo("deep/data")
        data.size = 5
        tar.addfile(data, io.BytesIO(b"bytes"))
        for kind, name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    rows, ignored = listed(tmp_path / "a.tar")
    shown = {row["image_id"].removeprefix("a.tar/"): row for row in rows if not row["problem"]}
    assert {name: fetch.read(row["uri"])[1] for name, row in shown.items()} == dict.fromkeys(
        ["hard.jpg", "deep/soft.jpg", "again.jpg"], b"bytes"
    )
    assert {row["image_id"].removeprefix("a.tar/"): row["problem"] for row in rows if row["problem"]} == {
        "out.jpg": "a symbolic link to ../deep/data, of which no file comes before it in the archive",
        "gone.jpg": "a hard link to nowhere, of which no file comes before it in the archive",
        "pipe.jpg": "a device or a pipe",
    }
    assert ignored == 2  # deep/data and up


def test_names_of_any_kind(tmp_path):
    names = ["\n.jpg", "a b#?%20::.jpg", "ü" * 120 + ".jpg", "x" * 250 + ".jpg"]
    (tmp_path / "odd :: name#1.tar").write_bytes(tar_of({name: name.encode() for name in names}))
    rows, _ = listed(tmp_path / "odd :: name#1.tar")
    assert [row["image_id"] for row in rows] == [f"odd :: name#1.tar/{name}" for name in names]
    assert [fetch.read(row["uri"])[1].decode() for row in rows] == names


def test_an_archive_without_times_has_the_shards_version(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of({"x.jpg": b"123"}, mtime=0))
    (row,), _ = listed(tmp_path / "a.tar")
    found = (tmp_path / "a.tar").stat()
    assert row["version"] == f"3@{found.st_size}-{found.st_mtime_ns}"


WHOLE = tar_of({"a.jpg": b"a" * 600, "b.jpg": b"b" * 600, "c.jpg": b"c" * 600}, kind=tarfile.USTAR_FORMAT)
MEMBER = 512 + 1024


@pytest.mark.parametrize(
    ("data", "good", "reason"),
    [
        (WHOLE[: 2 * MEMBER + 700], "ab", "ends inside of 'c.jpg'"),
        (WHOLE[: 2 * MEMBER + 512 + 600], "abc", "without the mark of its end"),
        (WHOLE[: 2 * MEMBER + 100], "ab", "truncated header"),
        (WHOLE[: 2 * MEMBER], "ab", "without the mark of its end"),
        (WHOLE[:MEMBER] + b"\xff" * 512 + WHOLE[MEMBER:], "a", "bad checksum|invalid"),
        (b"no tar at all" * 100, "", "invalid header|truncated"),
        (b"", "", "the file is empty"),
    ],
)
def test_a_broken_tar_loses_its_tail_and_says_so(tmp_path, data, good, reason):
    (tmp_path / "t.tar").write_bytes(data)
    rows, _ = listed(tmp_path / "t.tar")
    *members, last = rows
    assert [row["image_id"] for row in members] == [f"t.tar/{letter}.jpg" for letter in good]
    assert [fetch.read(row["uri"])[1] for row in members] == [letter.encode() * 600 for letter in good]
    assert last["image_id"] == "t.tar"
    assert re.search(reason, last["problem"])


def header(kind: bytes, size: int, name: str = "x.jpg") -> bytes:
    """As ``tarfile`` would not write it."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = (0x80 << 88 | size).to_bytes(12, "big") if size >= 0 else (256**12 + size).to_bytes(12, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(**records: str) -> bytes:
    info = tarfile.TarInfo("x.jpg")
    info.pax_headers = records
    return info.tobuf(tarfile.PAX_FORMAT)


HOSTILE = {
    **{f"{kind}, {size}": header(kind.encode(), size) for kind in "xgLKX" for size in (2**70, 2**62, 2**21, -512)},
    "a member of less than nothing": header(tarfile.REGTYPE, -512),
    "less than nothing in a pax header": pax(size="-1536"),
    "no end of time": pax(mtime="inf"),
    "headers of headers": pax(comment="x")[:1024] * 2000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_header_is_the_end_of_its_tar(tmp_path, kind):
    (tmp_path / "t.tar").write_bytes(WHOLE[:MEMBER] + HOSTILE[kind] + WHOLE)
    rows = list(islice(Listing(str(tmp_path / "t.tar"))._entries(), 10))
    assert [row.image_id for row in rows] == ["t.tar/a.jpg", "t.tar"]
    assert "its members from here on are lost" in rows[1].problem


def test_a_shard_that_was_cut_after_it_was_listed(tmp_path):
    (tmp_path / "a.tar").write_bytes(WHOLE)
    rows, _ = listed(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(WHOLE[: MEMBER + 600])
    assert fetch.read(rows[0]["uri"])[1] == b"a" * 600
    with pytest.raises(ReadError, match="ends 512 bytes before the end of this member"):
        fetch.read(rows[1]["uri"])
    (tmp_path / "a.tar").unlink()
    with pytest.raises(ReadError, match="No such file"):
        fetch.read(rows[0]["uri"])


@pytest.mark.parametrize(
    ("contents", "mtime"),
    [
        ({"cat.jpg": b"cat" * 50, "dog.jpg": b"dog" * 60}, 5),
        ({"cat.jpg": b"cat" * 50, "dog.jpg": b"dog" * 50}, 0),
        ({"cat.jpg": b"cat" * 500, "dog.jpg": b"dog" * 50}, 5),
    ],
)
def test_a_shard_that_was_written_again_gives_no_picture_of_another_name(tmp_path, contents, mtime):
    """In the other order. Without times it is the archive's that tells."""
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(contents, mtime))
    rows, _ = listed(path)
    path.write_bytes(tar_of(dict(reversed(contents.items())), mtime))
    for row in rows:
        with pytest.raises(ReadError, match="has changed since it was listed"):
            fetch.read(row["uri"], row["version"])
    assert {row["image_id"][6:]: fetch.read(row["uri"], row["version"])[1] for row in listed(path)[0]} == contents


def test_what_stands_in_other_headers_is_no_change(tmp_path):
    """Of times that the member's own header does not hold, and of one that was rounded up."""
    times = {"a.jpg": 8**11 + 5, "b.jpg": -5, "c.jpg": 7.25, "d.jpg": 8**12 - 0.5}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, mtime in times.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 1, mtime
            tar.addfile(info, io.BytesIO(b"x"))
        info = tarfile.TarInfo("e.jpg")
        info.size, info.mtime, info.pax_headers = 1, 1_700_000_000, {"mtime": "1700000000.999999999"}
        tar.addfile(info, io.BytesIO(b"x"))
    rows, _ = listed(tmp_path / "a.tar")
    assert [fetch.read(row["uri"], row["version"])[1] for row in rows] == [b"x"] * 5


def test_a_look_at_an_object_serves_all_of_its_members(monkeypatch):
    """Members of an archive without times are of the version of the archive, which takes a request to know."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/looked/a.tar", tar_of({f"{number}.jpg": b"x" for number in range(5)}, mtime=0))
    rows, _ = listed("memory://looked/a.tar")
    asked = []
    monkeypatch.setattr(members, "version_of", lambda *given: asked.append(given) or rows[0]["version"][2:])
    assert [fetch.read(row["uri"], row["version"])[1] for row in rows] == [b"x"] * 5
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["a.tar.gz", "a.TGZ", "*.tar.gz"])
def test_compressed_tars_are_refused(tmp_path, name):
    (tmp_path / name.replace("*", "a")).write_bytes(b"")
    with pytest.raises(UserError, match=r"compressed archive .*\.tgz.* Unpack it"):
        listed(tmp_path / name)


def test_shards_in_object_storage():
    memory = fsspec.filesystem("memory")
    memory.pipe({"/shards/a.tar": tar_of(), "/shards/b.tar": tar_of({"x.jpg": b"b"})})
    rows, ignored = listed("memory://shards/*.tar")
    assert [fetch.read(row["uri"])[1] for row in rows] == [b"first", b"", b"x" * 1500, b"y", b"b"]
    assert ignored == 1


def test_shards_in_object_storage_are_listed_several_at_once_and_come_in_their_order(monkeypatch):
    begun = threading.Barrier(SHARDS_AHEAD)

    def members(filesystem, path, version):
        if int(path[-6:-4]) < SHARDS_AHEAD:
            begun.wait(60)  # each waits for all
        yield from (Member(f"{number}.jpg", "bytes://0+1", version) for number in range(3))

    memory = fsspec.filesystem("memory")
    memory.pipe({f"/many/{number:02d}.tar": b"" for number in range(SHARDS_AHEAD + 3)})
    monkeypatch.setattr(tar_shards, "tar_members", members)
    rows, _ = listed("memory://many/*.tar")
    ids = [f"{shard:02d}.tar/{number}.jpg" for shard in range(SHARDS_AHEAD + 3) for number in range(3)]
    assert [row["image_id"] for row in rows] == ids


def test_a_listing_that_is_left_early_leaves_no_thread(monkeypatch):
    def endless(filesystem, path, version):
        yield from (Member(f"{number}.jpg", "bytes://0+1", version) for number in count())

    memory = fsspec.filesystem("memory")
    memory.pipe({f"/endless/{number}.tar": b"" for number in range(3)})
    monkeypatch.setattr(tar_shards, "tar_members", endless)
    next(Listing("memory://endless/*.tar").chunks())
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "ahead":
            thread.join(60)
            assert not thread.is_alive()


class Counted(io.BytesIO):
    """What object storage sees: each read is a request."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads = 0

    def size(self) -> int:
        return len(self.getbuffer())

    def read_at(self, size: int, position: int) -> bytes:
        self.reads += 1
        return bytes(self.getbuffer()[position : position + size])


@pytest.mark.parametrize(("member", "count"), [(10_000, 2_000), (100_000, 200), (1_000_000, 20)])
def test_listing_a_shard_takes_few_requests(member, count):
    """20 MB are three blocks and the end, whether of many members or of few."""
    file = Counted(tar_of({f"{number}.jpg": bytes(member) for number in range(count)}))
    filesystem = SimpleNamespace(open_input_file=lambda path: file)
    assert sum(1 for _ in tar_shards.tar_members(filesystem, "a.tar", "1")) == count
    assert file.reads <= 4


def test_what_has_changed_is_a_failure_of_its_own_and_a_new_listing_has_it(tmp_path):
    """However many: it does not look like a lost connection."""
    saved, tar, table = tmp_path / "saved.parquet", tmp_path / "a.tar", tmp_path / "t.parquet"
    pictures = {f"{number}.jpg": hostile.JPEG + bytes(number) for number in range(10)}  # of ten sizes
    rows = []
    for shown in (pictures, dict(reversed(pictures.items()))):
        tar.write_bytes(tar_of(shown))
        pq.write_table(pa.table({"image_id": list(shown), "image": list(shown.values())}), table)
        rows = rows or listed(tar)[0] + listed(table)[0]
    pq.write_table(pa.Table.from_pylist(rows), saved)
    outcome = hostile.outcome_of(Listing(str(saved)))
    assert set(outcome.values()) == {("read", members.CHANGED)} and len(outcome) == 20
    for images in (tar, table):
        assert set(hostile.outcome_of(Listing(str(images))).values()) == {None}
