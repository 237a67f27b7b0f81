"""Pictures in Parquet tables: cells in any order, tables that change, and what the field's datasets hold."""

import io
from types import SimpleNamespace
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import UserError
from pipelines.files.storage import class_of
from pipelines.inputs import fetch, listing, table_shards
from pipelines.inputs.fetch import ReadError, UnreadStreak
from tests.worlds.listings import listed


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
    table_shards.TABLES.open.clear()  # as in another process, or when others were read meanwhile
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
        found = table_shards.read_cell(filesystem, str(tmp_path / "t.parquet"), f"cell://0/{row}/image", None)
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
