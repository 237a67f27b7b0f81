"""Translations as lines of text, in the corpus's order, as other programs take them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc

from feature_store import Dataset
from pipelines.console import UserError
from pipelines.corpus import Corpus, packing_of
from pipelines.places import locate


def translated(corpus: Corpus, dataset: Dataset) -> Iterator[list[str]]:
    """The translations in the corpus's order, chunk by chunk; "" of what failed."""
    snapshot = dataset.snapshot()
    failed = snapshot.failures()["id"].combine_chunks()
    for chunk in corpus.chunks():
        gone = pc.is_in(chunk["id"], value_set=failed)
        there = chunk["id"].filter(pc.invert(gone)).combine_chunks()
        said = iter(snapshot.take(there, ["translation"])["translation"].to_pylist())
        yield ["" if is_gone else next(said) for is_gone in gone.to_pylist()]


def write_lines(corpus: Corpus, dataset: Dataset, path: str) -> None:
    """The translations as lines of text, packed if the name says so. A local file is there whole or not at all."""
    fresh = path if "://" in path else f"{path}.part"
    filesystem, inside = locate(fresh)
    try:
        with filesystem.open_output_stream(inside, compression=packing_of(path)) as file:
            for some in translated(corpus, dataset):
                file.write("".join(f"{line}\n" for line in some).encode())
        if fresh != path:
            os.replace(fresh, path)
    except OSError as error:
        raise UserError(
            f"The lines cannot be written to {path}: {error}. The translations are in {dataset.store.files.shown}; run "
            "the same command with --text ANOTHER."
        ) from None


def refuse_unwritable(path: str | None) -> None:
    """Before hours of work, not after them."""
    if path is None or "://" in path:
        return
    parent = Path(path).absolute().parent
    if not parent.is_dir() or Path(path).is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"--text {path}: no file can be written there; expected a name in a folder that is there.")
