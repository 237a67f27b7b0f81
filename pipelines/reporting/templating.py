"""The Jinja environment of all pages: everything escaped, and control characters shown."""

from __future__ import annotations

import re
from typing import Any

import jinja2
from markupsafe import Markup

HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a page cannot show, or that turn round what stands after them. The marks that texts of right-to-left
languages have (U+200E, U+200F) are none."""


def environment() -> jinja2.Environment:
    """Templates of ``pipelines.reporting``."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )


def visible(value: Any) -> Any:
    r"""A text of the user's with its control characters spelled, as ``\x1b``; anything else as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return HIDDEN.sub(lambda match: match[0].encode("ascii", "backslashreplace").decode() if match[0] > "\x7f" else
                      f"\\x{ord(match[0]):02x}", value)  # fmt: skip
