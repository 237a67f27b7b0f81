"""Names as people have them, and as those give them who want to know what happens: for folders, files and ids."""

import shutil
from pathlib import Path

PARTS = (
    "写真",
    "für é",
    "cafe\u0301",
    "a b",
    "100%",
    "%20",
    "what?",
    "a#b",
    ":dog:",
    "[bold]",
    "x\x1b[31mred",
    "two\nlines",
    "tab\there",
    "\u202eright to left",
    "q'u\"o",
    "back\\slash",
    "$HOME",
    "-dash",
    "a;b&c",
    "👩‍🚒",
)
FOLDER = " ".join(PARTS)
"""All of them in one."""

LONG = "n" * 246 + ".jpg"
"""250 characters, and more bytes than most names have."""


def name_files(photos: Path) -> list[str]:
    """Give the files of a folder such names, one each, as many as there are; returns these, sorted."""
    names = sorted([*(f"{part}.jpg" for part in PARTS), LONG])
    for file, name in zip(sorted(photos.iterdir()), names, strict=True):
        shutil.move(file, photos / name)
    return names
