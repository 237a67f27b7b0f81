"""Folders that are there whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def replace_folder(folder: str | Path, files: dict[str, bytes]) -> None:
    """Write ``files`` beside ``folder``, then give them its name."""
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            folder.rename(old / folder.name)
            fresh.rename(folder)
            shutil.rmtree(old)
        else:
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def sweep(folder: str | Path) -> None:
    """Remove what a ``replace_folder`` that was killed left of ``folder``, whose name may be a pattern.

    What it had moved out of the way and put nothing in the place of is moved back.
    """
    parent, name = Path(folder).parent, Path(folder).name
    for old in parent.glob(f".{name}.old.*/{name}"):
        if not (parent / old.name).exists():
            old.rename(parent / old.name)
    for rest in parent.glob(f".{name}.*"):
        shutil.rmtree(rest)
