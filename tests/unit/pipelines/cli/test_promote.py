"""Mistakes on the command line of ``rnncond promote``, and in what it names."""

from tests.worlds.command import told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "promote",
    [
        ("--model model", "'--name'"),
        ("--model nowhere --name m", "nowhere"),
        ("--model model --name a/b", "--name"),
        ("--model model --name m", "model"),
        ("--model model --name m --split test", "--data"),
        ("--model model --name m --allow-uri bytes://x", "--allow-uri"),
        ("--model torn --name m", "no model.json"),
    ],
)
