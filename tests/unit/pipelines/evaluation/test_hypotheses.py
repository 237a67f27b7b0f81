"""Files of captions that other programs wrote."""

import pytest

from pipelines.errors import UserError
from pipelines.evaluation.hypotheses import read_hypotheses


@pytest.mark.parametrize(
    "text",
    [
        '[{"image_id": 1, "caption": "A dog"}, {"image_id": "b", "caption": ""}]',
        '{"image_id": 1, "caption": "A dog"}\n\n{"image_id": "b", "caption": ""}\n',
        "1\tA dog\nb\t\n",
        "\ufeff1\tA dog\nb\t\n",
    ],
)
def test_forms_of_a_file_of_captions(tmp_path, text):
    (tmp_path / "said").write_text(text)
    assert read_hypotheses(str(tmp_path / "said")) == {"1": "A dog", "b": ""}


def test_nothing_but_a_line_feed_ends_a_line_of_captions(tmp_path):
    said = {name: f"A{end}dog" for name, end in zip("abc", "\u2028\u2029\x85", strict=True)}
    (tmp_path / "lines").write_text("".join(f"{name}\t{caption}\n" for name, caption in said.items()))
    assert read_hypotheses(str(tmp_path / "lines")) == said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no captions"),
        ("a caption alone", "line 1: found 'a caption alone', expected ID<tab>caption"),
        ('{"image_id": 1}', "line 1: 'caption' is missing"),
        ('[{"caption": "A"}]', "entry 1: 'image_id' is missing"),
        ("[1", "cannot be read as JSON: Expecting"),
        ("[1]", "entry 1: found 1, expected a JSON object"),
        ('[["1", "A"]]', 'entry 1: found ["1", "A"], expected a JSON object'),
        ('["1\\tA"]', "entry 1: found \"1\\tA\", expected a JSON object"),
        ('{"image_id": 1, "caption": "A"}\n["1", "A"]', "line 2: found '[\"1\", \"A\"]', expected ID<tab>caption"),
        ('[{"image_id": [1], "caption": "A"}]', "entry 1: 'image_id' is [1], expected a whole number or a string"),
        ('[{"image_id": NaN, "caption": "A"}]', "entry 1: 'image_id' is NaN, expected a whole number or a string"),
        ('{"image_id": NaN, "caption": "A"}', "line 1: 'image_id' is NaN, expected a whole number or a string"),
        ('[{"image_id": 1, "caption": null}]', "entry 1: 'caption' is null, expected a string"),
        ("[" * 100_000, "cannot be read as JSON: nested too deeply"),
        ('{"a":' * 100_000, "line 1: nested too deeply"),
        (f'[{{"image_id": {"1" * 5000}}}]', "cannot be read as JSON: a number has thousands of digits"),
        (r'[{"image_id": 1, "caption": "A \ud83d"}]', r"entry 1: half of a character (a lone surrogate) in 'A \ud83d'"),
        (r'{"image_id": 1, "caption": "A \ud83d"}', r"line 1: half of a character (a lone surrogate) in 'A \ud83d'"),
        (r'{"image_id": "\ud83d", "caption": "A"}', r"line 1: half of a character (a lone surrogate) in '\ud83d'"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, text, expected):
    (tmp_path / "captions").write_text(text)
    with pytest.raises(UserError) as error:
        read_hypotheses(str(tmp_path / "captions"))
    assert expected in str(error.value)
