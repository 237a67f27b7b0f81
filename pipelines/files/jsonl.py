"""JSON that others wrote: whatever is wrong with it is a ValueError that says so."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rnncond.atomic import sync_folder


def from_json(text: str) -> Any:
    """What ``text`` holds.

    Raises:
        json.JSONDecodeError: it is not JSON.
        ValueError: it is JSON that Python does not read.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ValueError as error:
        raise ValueError("a number has thousands of digits") from error


def json_object(line: str) -> dict[str, Any]:
    """What a line of JSON lines holds.

    Raises:
        ValueError: it is not JSON, no mapping, or nested too deeply.
    """
    value = from_json(line)
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    return value


def refuse_halves(texts: Iterable[str | None]) -> None:
    """ValueError where a text has what JSON can escape and UTF-8 cannot write."""
    try:
        "".join(filter(None, texts)).encode()
    except UnicodeEncodeError as error:
        near = error.object[max(error.start - 30, 0) : error.end + 30]
        raise ValueError(f"half of a character (a lone surrogate) in {near!a}") from error


def shown(value: Any) -> str:
    """The beginning of a value, as JSON, for a message."""
    try:
        text = json.dumps(value, ensure_ascii=False)[:60]
    except RecursionError:
        return "something nested too deeply"
    return text.encode(errors="backslashreplace").decode()


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, without a last line that was cut short."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.split("\n")[:-1]]  # no other character ends a line of JSON


def append(path: Path, lines: list[dict[str, Any]]) -> None:
    """Add lines in one write, after cutting off what a killed writer left of its last."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    is_new = not path.exists()
    with open(path, "ab+") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)
