"""What users call their pictures and say of them, on a page: shown, and without power over it."""

import pytest
from markupsafe import Markup

from pipelines.reporting.templating import environment, visible


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("team:dog:1.jpg", "team:dog:1.jpg"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("\u2066x\u2069\x85\x00\r", "\\u2066x\\u2069\\x85\\x00\\x0d"),
        ("two\nlines\tapart", "two\nlines\tapart"),
        ("\u0633\u200f \u5199 caf\u00e9 \U0001f436", "\u0633\u200f \u5199 caf\u00e9 \U0001f436"),
        ("\ud800", "\\ud800"),
    ],
)  # fmt: skip
def test_control_characters_are_spelled_and_other_text_stays(name, shown):
    assert visible(name) == shown


def test_markup_of_users_is_escaped_and_that_of_the_page_is_not():
    template = environment().from_string("{{ name }}|{{ chart }}|{{ count }}")
    page = template.render(name="<b>\x1b</b>", chart=Markup("<svg/>"), count=3)
    assert page == "&lt;b&gt;\\x1b&lt;/b&gt;|<svg/>|3"
