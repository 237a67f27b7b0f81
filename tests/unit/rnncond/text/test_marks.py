# ruff: noqa: RUF001
"""Words, marks and the blanks between them: by hand, by UAX #29, and there and back for any text."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from rnncond.text import marks

SEPARATE = normalizers.Sequence(marks.separate()).normalize_str


@pytest.mark.parametrize(
    ("text", "separated"),
    [
        ("Yes, he said.", "Yes , he said ."),
        ("$5 and/or 1,000.5 at 10:30", "$￭ 5 and ￭/￭ or 1 ,￭ 000 .￭ 5 at 10 :￭ 30"),
        ("the U.S., AT&T", "the U .￭ S . , AT ￭&￭ T"),
        ("Quoi ? ( oui )", "Quoi ▁? (▁ oui ▁)"),
        ('he "yes" (twice)... ok', 'he "￭ yes ￭" ( twice ) . . . ok'),
        ("f(x)y {z}", "f ￭( x )￭ y { z }"),
        ("'tis rock'n'roll - a--b", "'￭ tis rock'n'roll - a ￭- ￭-￭ b"),
    ],
)
def test_tokens_by_hand(text, separated):
    assert SEPARATE(text) == separated
    assert marks.join(separated) == text


ONE_WORD = {
    "Persian, zero-width non-joiner": "می\u200cخواهم",
    "Hindi, zero-width joiner": "र्\u200dय",
    "Malayalam, joiner at the end": "ന്\u200d",
    "Catalan middle dot": "col·lecció",
    "Greek ano teleia inside": "α\u0387β",
    "Hebrew gershayim": "צה״ל",
    "gershayim typed as a quote": 'צה"ל',
    "Hebrew geresh": "ג׳ירפה",
    "Armenian emphasis": "ինչո՞ւ",
    "soft hyphen": "Donau\u00addampf",
    "hyphens": "well-known\u2011hyphen\u2010s",
    "apostrophes": "aujourd’hui",
    "combining marks without a composed form": "x\u0301y\u0302\u0323",
}
ONE_MARK = {
    "family": "👩\u200d👩\u200d👧",
    "skin colour": "👍🏽",
    "flag": "🇩🇪",
    "flag by tags": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "keycap": "#\ufe0f\u20e3",
    "heart on fire": "❤\ufe0f\u200d🔥",
}


@pytest.mark.parametrize("token", [*ONE_WORD.values(), *ONE_MARK.values()], ids=[*ONE_WORD, *ONE_MARK])
def test_what_is_one_token(token):
    assert SEPARATE(f"so {token} it is") == f"so {token} it is"
    assert SEPARATE(f"so {token}.") == f"so {token} ."


SCRIPTS = "aZé ßĲ Жд Ωά אבג عربی कर्मि ഭാഷ ไทยสวัสดี 中文 かなカナ 한국어 ქართ հայ ٣४7 ʼn"
SIGNS = ".,;:!?…%$€£/&#@*+=<>|~^\"'`´‘’“”„«»()[]{}¿¡-‐‑–—·•✓。、！،؟।״׳"
ODD = "\u200c\u200d\u200b\u00ad\u200e\u200f\ufeff\u0301\u20e3\ufe0f👩🔥👍🏽🇩🇪🏴\U000e0067\U000e007f\u0000"
texts = st.text(st.sampled_from(SCRIPTS + " " * 12 + SIGNS * 2 + ODD), max_size=30) | st.text(max_size=20)


@settings(max_examples=200)
@given(texts)
@example("( )")
@example("a ? ? ( ( b ) )")
@example('"\u200d🇩🇪🇫🇷"')
def test_any_text_comes_back(text):
    own = normalizers.Sequence(marks.own_signs()).normalize_str(text)
    plain = normalizers.Sequence([normalizers.Replace("\u00a0", " ")]).normalize_str(" ".join(own.split()))
    assert marks.join(SEPARATE(plain)) == plain


@settings(max_examples=100)
@given(st.text(st.sampled_from(SCRIPTS), min_size=1, max_size=8).filter(lambda word: " " not in word))
def test_letters_of_any_script_are_never_parted(word):
    assert SEPARATE(f"({word})") == f"( {word} )"


@pytest.mark.parametrize(
    ("spaced", "text"),
    [
        ("he said , yes !", "he said, yes!"),
        ('he said : " yes " ( twice ) .', 'he said: "yes" (twice).'),
        ("„ ja “ und “ no ” , 50 % …", "„ja“ und “no”, 50%…"),
        ("no marks", "no marks"),
        ('a " lone quote', 'a " lone quote'),
    ],
)
def test_without_signs_the_blanks_are_guessed(spaced, text):
    assert marks.guess(spaced) == text
