"""Mistakes on the command line of ``rnncond translate``, and in what it names."""

from tests.worlds.command import LONG, told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "translate",
    [
        ("lines.en --out o", "'--model'"),
        ("nowhere.en --model model --out o", "nowhere.en"),
        ("lines.en --model nowhere --out o", "nowhere"),
        ("lines.en --model model --out o", "model"),
        ("empty --model model --out o", "no file empty"),
        ("lines.en --model model --out o --too-long cur", "'cur'"),
        ("lines.en --model model --out o --beam 0", "'--beam'"),
        (f"{LONG} --model model --out o", "File name too long"),
    ],
)
