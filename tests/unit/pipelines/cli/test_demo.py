"""Mistakes on the command line of ``rnncond demo``, and in what it names."""

from tests.worlds.command import LONG, told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "demo",
    [
        ("--data captions.jsonl", "--data and --weights go together"),
        ("--weights w.pth", "--data and --weights go together"),
        ("--seed -1", "'--seed'"),
        ("--out noise.bin", "noise.bin"),
        ("--out s3://bucket/demo", "--out: found s3://bucket/demo, expected a folder of this machine"),
        ("world", "unexpected extra argument"),
        ("--data nowhere.jsonl --weights noise.bin --out d", "nowhere.jsonl"),
        (f"--out {LONG}", "File name too long"),
    ],
)
