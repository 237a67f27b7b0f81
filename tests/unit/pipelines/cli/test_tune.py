"""Mistakes on the command line of ``rnncond tune``, and in what it names."""

from tests.worlds.command import LONG, told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "tune",
    [
        ("", "'RECIPE'"),
        ("nowhere.yaml", "nowhere.yaml"),
        ("show_tell.small data.store=s data.captions=captions.jsonl tune.trials=0", "tune.trials"),
        (
            "show_tell.small data.store=s data.captions=captions.jsonl tune.algorithm=girdsearch",
            "tune.algorithm | girdsearch",
        ),
        (
            "show_tell.small data.store=s data.captions=captions.jsonl 'tune.space.model.hiden={uniform: [1, 2]}'",
            "hiden",
        ),
        ("show_tell.small data.store=nowhere data.captions=captions.jsonl", "nowhere"),
        (LONG, "File name too long"),
    ],
)
