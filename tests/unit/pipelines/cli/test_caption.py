"""Mistakes on the command line of ``rnncond caption``, and in what it names."""

from tests.worlds.command import LONG, told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "caption",
    [
        ("captions.jsonl --out o", "'--model'"),
        ("captions.jsonl --model nowhere --out o", "nowhere"),
        ("captions.jsonl --model model --out o", "model"),
        ("captions.jsonl --model empty --out o", "empty"),
        ("captions.jsonl --model models:/m@champion --out o --tracking-uri sqlite:///none/mlflow.db", "no database"),
        ("--store s --save-listing l.parquet --model model --out o", "--save-listing"),
        ("captions.jsonl --model model --out o --length-penalty gnm", "'gnm'"),
        (f"captions.jsonl --model {LONG} --out o", "File name too long"),
    ],
)
