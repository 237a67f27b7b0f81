"""Mistakes on the command line of ``rnncond run``, and in what it names."""

from tests.worlds.command import LONG, told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "run",
    [
        ("", "'PIPELINE'"),
        ("nowhere.yaml", "nowhere.yaml"),
        ("list.yaml", "list.yaml"),
        ("broken.yaml", "broken.yaml"),
        ("captions.jsonl", "captions.jsonl"),
        ("noise.bin", "noise.bin"),
        ("empty", "empty"),
        (LONG, "File name too long"),
    ],
)
