"""Mistakes on the command line of ``rnncond report``, and in what it names."""

from tests.worlds.command import LONG, told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "report",
    [
        ("", "'OUT'"),
        ("nowhere", "nowhere"),
        ("empty", "empty"),
        ("noise.bin", "noise.bin"),
        ("torn", "torn"),
        ("empty --count 0", "'--count'"),
        ("empty --to s3://bucket/page.html", "--to FILE"),
        (LONG, "File name too long"),
    ],
)
