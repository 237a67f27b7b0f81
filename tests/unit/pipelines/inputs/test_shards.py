import gc
import io
import re
import tarfile
import threading
from itertools import count, islice
from types import SimpleNamespace
from typing import ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import UserError
from pipelines.features import fetch
from pipelines.features.fetch import ReadError, UnreadStreak
from pipelines.files.storage import class_of
from pipelines.inputs import listing, shards
from pipelines.inputs.listing import SHARDS_AHEAD, Listing
from tests.worlds import hostile

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


def listed(images) -> tuple[list[dict], int]:
    found = Listing(str(images))
    return [row for chunk in found.chunks() for row in chunk.to_pylist()], found.ignored


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
    monkeypatch.setattr(shards, "read_member", lambda filesystem, path, address, version: read.append(address))
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
    monkeypatch.setattr(shards, "version_of", lambda *given: asked.append(given) or rows[0]["version"][2:])
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
        yield from (shards.Member(f"{number}.jpg", "bytes://0+1", version) for number in range(3))

    memory = fsspec.filesystem("memory")
    memory.pipe({f"/many/{number:02d}.tar": b"" for number in range(SHARDS_AHEAD + 3)})
    monkeypatch.setattr(shards, "tar_members", members)
    rows, _ = listed("memory://many/*.tar")
    ids = [f"{shard:02d}.tar/{number}.jpg" for shard in range(SHARDS_AHEAD + 3) for number in range(3)]
    assert [row["image_id"] for row in rows] == ids


def test_a_listing_that_is_left_early_leaves_no_thread(monkeypatch):
    def endless(filesystem, path, version):
        yield from (shards.Member(f"{number}.jpg", "bytes://0+1", version) for number in count())

    memory = fsspec.filesystem("memory")
    memory.pipe({f"/endless/{number}.tar": b"" for number in range(3)})
    monkeypatch.setattr(shards, "tar_members", endless)
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
    assert sum(1 for _ in shards.tar_members(filesystem, "a.tar", "1")) == count
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
    assert set(outcome.values()) == {("read", shards.CHANGED)} and len(outcome) == 20
    for images in (tar, table):
        assert set(hostile.outcome_of(Listing(str(images))).values()) == {None}


# Parquet


def cells(count: int) -> list[bytes]:
    return [bytes([number % 256]) * (number % 5 + 1) for number in range(count)]


@pytest.mark.parametrize("column", ["image", "bytes", "struct"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_in_parquet(tmp_path, column, kind):
    values = pa.array(cells(100), kind)
    paths = pa.array([f"{number}.jpg" for number in range(100)])
    column, values = (
        ("image", pa.StructArray.from_arrays([values, paths], ["bytes", "path"]))
        if column == "struct"
        else (column, values)
    )
    pq.write_table(pa.table({column: values, "label": [1] * 100}), tmp_path / "t.parquet", row_group_size=70)
    rows, _ = listed(tmp_path / "t.parquet")
    assert rows[71]["image_id"] == "t.parquet/00000071"
    assert [fetch.read(row["uri"], row["version"])[1] for row in rows] == cells(100)
    found = (tmp_path / "t.parquet").stat()
    assert fetch.read(rows[0]["uri"], rows[0]["version"])[0] == f"{found.st_size}-{found.st_mtime_ns}"


def test_cells_in_any_order(tmp_path):
    pq.write_table(pa.table({"bytes": cells(300)}), tmp_path / "t.parquet", row_group_size=200)
    rows, _ = listed(tmp_path / "t.parquet")
    for at in (0, 199, 120, 121, 60, 250, 3, 199, 299):
        assert fetch.read(rows[at]["uri"])[1] == cells(300)[at]


def test_ids_in_parquet(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "CHUNK_ROWS", 2)
    pq.write_table(pa.table({"image_id": ["a", "b", "c"], "bytes": cells(3)}), tmp_path / "t.parquet")
    assert [row["image_id"] for row in listed(tmp_path / "t.parquet")[0]] == ["a", "b", "c"]
    pq.write_table(pa.table({"image_id": ["d", "c"], "bytes": cells(2)}), tmp_path / "u.parquet")
    with pytest.raises(UserError, match="gives image_id 'c' to several files"):
        listed(tmp_path / "*.parquet")


def test_a_cell_without_bytes_and_a_table_that_changed(tmp_path):
    pq.write_table(pa.table({"bytes": [b"x", None]}), tmp_path / "t.parquet")
    rows, _ = listed(tmp_path / "t.parquet")
    with pytest.raises(ReadError, match="no bytes in this row"):
        fetch.read(rows[1]["uri"], "1")
    pq.write_table(pa.table({"bytes": [b"x"]}), tmp_path / "t.parquet")
    with pytest.raises(ReadError, match="the file has changed"):
        fetch.read(rows[1]["uri"], "2")


def test_a_table_that_was_written_again_gives_no_picture_of_another_name(tmp_path):
    path, cells = tmp_path / "t.parquet", {"cat": b"a cat", "dog": b"a dog"}
    pq.write_table(pa.table({"image_id": list(cells), "image": list(cells.values())}), path)
    rows, _ = listed(path)
    assert fetch.read(rows[0]["uri"], rows[0]["version"])[1] == b"a cat"
    shards.TABLES.open.clear()  # as in another process, or when others were read meanwhile
    pq.write_table(pa.table({"image_id": [*cells][::-1], "image": [*cells.values()][::-1]}), path)
    for row in rows:
        with pytest.raises(ReadError, match="has changed since it was listed"):
            fetch.read(row["uri"], row["version"])
    assert {row["image_id"]: fetch.read(row["uri"], row["version"])[1] for row in listed(path)[0]} == cells


class Flaky(io.FileIO):
    """What reads of it fail with, the next one first; the last one stays."""

    errors: ClassVar[list[str | None]] = [None]

    def readinto(self, buffer) -> int:
        error = self.errors.pop(0) if len(self.errors) > 1 else self.errors[0]
        if error:
            raise OSError(error)
        return super().readinto(buffer)

    def read(self, size: int = -1) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])


@pytest.fixture
def flaky_row(tmp_path, monkeypatch):
    """What reads a row of a table of 100, on storage that fails as ``Flaky.errors`` say, with its listing's address."""
    monkeypatch.setattr(Flaky, "errors", [None])
    pictures = [bytes([number]) * 60_000 for number in range(100)]
    table = pa.table({"image": pictures})
    pages = {"use_dictionary": False, "data_page_size": 500_000, "write_batch_size": 8}
    pq.write_table(table, tmp_path / "t.parquet", compression="NONE", **pages)
    filesystem = SimpleNamespace(open_input_file=lambda path: pa.PythonFile(Flaky(path), "r"))

    def read(row: int) -> None:
        found = shards.read_member(filesystem, str(tmp_path / "t.parquet"), f"cell://0/{row}/image", None)
        assert found == pictures[row]

    return read


UNPLUGGED = "AWS Error NETWORK_CONNECTION"


def test_a_passing_error_costs_one_row(flaky_row):
    failed = []
    for row in range(100):
        if row == 50:
            Flaky.errors = [UNPLUGGED, None]
        try:
            flaky_row(row)
        except OSError as error:
            failed.append((row, str(error)))
    assert [said for _, said in failed] == [UNPLUGGED] and failed[0][0] >= 50


def test_an_error_that_stays_is_no_images_fault(flaky_row):
    """It is told again for each row, and so tells that the connection is lost."""
    flaky_row(0)
    Flaky.errors = [UNPLUGGED]
    streak = UnreadStreak(100)
    with pytest.raises(UserError, match="8 images in a row could not be read, for want of storage"):
        for row in range(50, 100):
            try:
                flaky_row(row)
            except OSError as error:
                streak.add(ReadError(str(error), class_of(error, "s3://b/t.parquet")))


def test_a_glob_of_tables_with_uris(tmp_path):
    for name in "ab":
        pq.write_table(pa.table({"uri": [f"{name}.jpg", f"/abs/{name}.jpg"]}), tmp_path / f"{name}.parquet")
    rows, _ = listed(tmp_path / "*.parquet")
    assert [row["uri"] for row in rows] == [
        str(tmp_path / "a.jpg"),
        "/abs/a.jpg",
        str(tmp_path / "b.jpg"),
        "/abs/b.jpg",
    ]


# As datasets of the field come


@pytest.mark.parametrize("kind", ["folder", "tar", "glob", "Hugging Face"])
def test_hidden_files_and_folders_are_passed_over_alike(tmp_path, kind):
    """Each of them is a failure otherwise: a Mac puts ``._a.jpg`` beside ``a.jpg`` (RFC 1740)."""
    shown, hidden = ["a.jpg", "b/c.jpg"], ["._a.jpg", "__MACOSX/._a.jpg", ".thumbnails/a.jpg", "b/.hidden/x/a.jpg"]
    names = [*hidden[:2], *shown, *hidden[2:]]
    for name in names:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"x")
    match kind:
        case "tar":
            images, first = tmp_path / "photos.tar", "photos.tar/./"
            with tarfile.open(images, "w") as archive:
                for name in names:
                    archive.add(tmp_path / "photos" / name, f"./{name}")
        case "Hugging Face":
            images, first = tmp_path / "t.parquet", "t.parquet/"
            pq.write_table(pa.table({"image": [{"bytes": b"x", "path": name} for name in names]}), images)
            shown = ["00000002", "00000003"]
        case "glob":
            images, first = tmp_path / "photos" / "**" / "*.jpg", ""
        case _:
            images, first = tmp_path / "photos", ""
    rows, ignored = listed(images)
    assert [row["image_id"] for row in rows] == [first + name for name in shown]
    assert ignored == (0 if kind == "glob" else len(hidden))  # which * does not stand for


def test_a_row_of_hugging_face_without_bytes_is_the_file_at_its_path(tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "b.jpg").write_bytes(b"of the file")
    (tmp_path / "c.jpg").write_bytes(b"of another")
    cells = [
        {"bytes": b"in the table", "path": "a.jpg"},
        {"bytes": None, "path": "images/b.jpg"},
        {"bytes": None, "path": str(tmp_path / "c.jpg")},
        {"bytes": None, "path": "gone.jpg"},
        {"bytes": None, "path": None},
    ]
    pq.write_table(pa.table({"image": cells}), tmp_path / "data" / "t.parquet")
    rows, _ = listed(tmp_path / "data" / "t.parquet")
    assert [fetch.read(row["uri"], row["version"])[1] for row in rows[:3]] == [
        b"in the table", b"of the file", b"of another"
    ]  # fmt: skip
    for row, reason in zip(
        rows[3:], ("no bytes, but the path .*gone.jpg.*no such file", "no bytes in this row"), strict=True
    ):
        with pytest.raises(ReadError, match=reason):
            fetch.read(row["uri"], row["version"])


def test_what_img2dataset_could_not_download_is_no_picture(tmp_path):
    states = ["success", "failed_to_download", "success", "failed_to_resize"]
    jpgs = [b"x" if state == "success" else None for state in states]
    pq.write_table(pa.table({"jpg": jpgs, "key": list("0123"), "status": states}), tmp_path / "00000.parquet")
    rows, ignored = listed(tmp_path / "00000.parquet")
    assert [row["image_id"] for row in rows] == ["00000.parquet/00000000", "00000.parquet/00000002"]
    assert ignored == 2
