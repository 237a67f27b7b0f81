"""Mistakes on the command line of ``rnncond features``, and in what it names."""

from tests.worlds.command import LONG, told_mistakes

test_a_mistake_is_told_in_one_message = told_mistakes(
    "features",
    [
        ("nowhere --store s", "nowhere"),
        ("empty", "--store"),
        ("empty --store s --workers 0", "'--workers'"),
        ("captions.jsonl --store s --backbone resnet50", "timm/NAME or torchvision/NAME"),
        ("captions.jsonl --store s --backbone torchvision/resent50 --weights random", "resent50 | resnet50"),
        ("captions.jsonl --store s --backbone torchvision/squeezenet1_0 --weights noise.bin", "noise.bin"),
        (
            "captions.jsonl --store s --backbone torchvision/squeezenet1_0 --weights random --outputs grids",
            "grids | grid",
        ),
        ("noise.bin --store s --weights random", "noise.bin"),
        (f"{LONG} --store s", "File name too long"),
        ("captions.jsonl --store noise.bin --backbone torchvision/squeezenet1_0 --weights random", "noise.bin"),
    ],
)
