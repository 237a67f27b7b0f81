"""Text in the encodings that can be told from one another, and bounds of what is read."""

import bz2
import gzip
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.files import text
from pipelines.files.text import TextError, decode, lines_in, read_text

MARKED = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")), st.sampled_from(MARKED))
def test_text_comes_back_in_every_encoding_that_a_mark_tells(content, encoding):
    encoded = content.encode(encoding)
    assert decode(encoded) == content
    assert "".join(lines_in(io.BytesIO(encoded))) == content
    assert list(lines_in(io.BytesIO(encoded))) == [line + "\n" for line in content.split("\n")[:-1]] + (
        [content.split("\n")[-1]] if content.split("\n")[-1] else []
    )


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_without_a_mark_the_zeros_tell(encoding):
    assert decode("ab\ncafé 日本\n".encode(encoding)) == "ab\ncafé 日本\n"


@pytest.mark.parametrize(("before", "line"), [(0, 1), (1, 2), (10_000, 10_001)])
def test_the_line_that_is_no_text_is_named_with_what_to_do(before, line):
    content = b"good\n" * before + b"caf\xe9.jpg\nmore\n"
    expected = rf"line {line:,} is not text in UTF-8 .*0xe9.*iconv -f latin1 -t utf-8"
    with pytest.raises(TextError, match=expected):
        decode(content)
    with pytest.raises(TextError, match=expected):
        list(lines_in(io.BytesIO(content)))


def test_any_line_end_where_it_is_asked_for():
    assert list(lines_in(io.BytesIO(b"a\rb\r\nc"), newline="")) == ["a\r", "b\r\n", "c"]
    assert list(lines_in(io.BytesIO(b"a\rb\r\nc"))) == ["a\rb\r\n", "c"]


def test_a_line_has_a_bound_whatever_a_small_file_unpacks_to(monkeypatch):
    monkeypatch.setattr(text, "MAX_LINE", 1 << 20)
    packed = gzip.compress(b"ok\n" + b"x" * (64 << 20))
    assert len(packed) < 100_000
    tracemalloc.start()
    with (
        pytest.raises(TextError, match="line 2 has more than 1,048,576 characters"),
        gzip.open(io.BytesIO(packed)) as file,
    ):
        list(lines_in(file))
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_whole_file_has_a_bound_only_where_it_unpacks_to_much_more(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "ALWAYS_ALLOWED", 1000)
    for name, pack in (("t.gz", gzip.compress), ("t.bz2", bz2.compress), ("t", bytes)):
        (tmp_path / name).write_bytes(pack(b"x" * 100_000))
        if name == "t":
            assert len(read_text(str(tmp_path / name))) == 100_000
            continue
        with pytest.raises(UserError, match=f"{name} cannot be read: it unpacks to more than"):
            read_text(str(tmp_path / name))


def test_a_file_that_is_not_there_is_a_message(tmp_path):
    with pytest.raises(UserError, match="nothing cannot be read"):
        read_text(str(tmp_path / "nothing"))
