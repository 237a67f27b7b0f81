"""The writer of run folders without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pipelines.training.run import writer as run_writer
from pipelines.training.run.writer import RunWriter
from pipelines.tuning import monitor


class Method:
    """A method of an actor that is none: it is called at once."""

    def __init__(self, function):
        self.remote = function


class LocalWriter:
    """A ``RunWriter`` in this process, by the interface of an actor."""

    def __init__(self, root: Path) -> None:
        self.writer = RunWriter(root)

    def __getattr__(self, name: str) -> Method:
        return Method(getattr(self.writer, name))

    def close(self) -> None:
        self.writer.close("")


@contextmanager
def local_writer(root: Path, remote: None = None) -> Iterator[LocalWriter]:
    """A ``LocalWriter`` while no Ray is there, for all that would ask an actor."""
    with pytest.MonkeyPatch.context() as patch, closing(LocalWriter(root)) as writer:
        for module in (run_writer, monitor):
            patch.setattr(module, "answer", lambda value: value)
        yield writer
