"""Mistakes on the command line of ``rnncond evaluate``, and in what it names."""

from tests.worlds.command import LONG, told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "evaluate",
    [
        ("--hypotheses lines.en --references lines.de", "3 | 2"),
        ("--hypotheses lines.en --references nowhere", "nowhere"),
        ("--hypotheses half.json --references half.json --kind captions", "half.json"),
        ("--hypotheses lines.en --references noise.bin", "noise.bin"),
        ("--model nowhere", "nowhere"),
        ("--captions nowhere --data captions.jsonl", "nowhere"),
        (f"--model {LONG}", "File name too long"),
        ("--hypotheses lines.en --references lines.en --out noise.bin", "--out ANOTHER"),
    ],
)
