"""Mistakes on the command line of ``rnncond train``, and in what it names."""

from tests.worlds.command import LONG, told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "train",
    [
        ("", "'RECIPE'"),
        ("show_tel.small", "show_tel.small | show_tell.small"),
        ("list.yaml", "list.yaml"),
        ("broken.yaml", "broken.yaml"),
        ("show_tell.small data.store=nowhere data.captions=captions.jsonl", "nowhere"),
        ("show_tell.small data.store=s data.captions=captions.jsonl training.epoch=3", "training.epoch | epochs"),
        (
            "show_tell.small data.store=s data.captions=captions.jsonl training.epochs=many",
            "training.epochs | many | number",
        ),
        (
            "encdec_bidirectional.small data.source=lines.en data.target=lines.de data.validation_source=lines.en "
            "data.validation_target=lines.en",
            "lines.de",
        ),
        (LONG, "File name too long"),
    ],
)
