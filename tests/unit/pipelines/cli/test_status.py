"""Mistakes on the command line of ``rnncond status``."""

from tests.worlds.command import told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "status",
    [
        ("", "OUT"),
        ("nowhere", "nowhere"),
        ("noise.bin", "noise.bin"),
        ("torn", "run.json | damaged"),
        ("empty --total -1", "'--total'"),
        ("empty --watch --every 0", "'--every'"),
    ],
)
