"""Mistakes on the command line of ``rnncond store``, and in what it names."""

from tests.worlds.command import LONG, told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "store",
    [
        ("inf s", "'inf'"),
        ("info", "DIR"),
        ("info nowhere", "nowhere"),
        ("verify noise.bin", "noise.bin"),
        ("compact empty", "empty"),
        ("compact empty --target-mb 0", "'--target-mb'"),
        ("vacuum nowhere --grace-hours -1", "'--grace-hours'"),
        (f"info {LONG}", "File name too long"),
    ],
)
