"""Mistakes on the command line of ``rnncond submit``, and in what it names."""

from tests.worlds.command import told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "submit",
    [
        ("-- fetaures x", "no verb 'fetaures' | 'features'"),
        ("-- train", "'RECIPE'"),
        ("-- store inf s", "found inf"),
        ("--working-dir nowhere -- store info s", "nowhere"),
        ("--address ray://h:10001 -- store info s", "ray://h:10001 | dashboard"),
        ("status", "ID"),
        ("--env NOT_SET -- store info s", "NOT_SET"),
        ("--address http://[ -- store info s", "http://["),
    ],
)
