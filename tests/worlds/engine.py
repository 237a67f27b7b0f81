"""The engine of the batch verbs in this process: what it does to a set, without Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from feature_store import Dataset
from pipelines.cluster.resources import Plan
from pipelines.engine import driver
from pipelines.engine.resume import with_tries
from pipelines.engine.work import cut
from pipelines.engine.workers import MakeWorker
from pipelines.training.data import tokens

ROWS = 16
"""Of a unit at most."""


def run(dataset: Dataset, chunks: Iterable[pa.Table], make: MakeWorker, *_: Any, rows: int = ROWS) -> SimpleNamespace:
    """Do what is left of ``chunks``, in units of so many ``rows``."""
    worker, failed = make(Plan(1, 1, 0))(), 0
    with dataset.begin() as term:
        for chunk in chunks:
            new = chunk.filter(pc.invert(pc.is_in(chunk[dataset.id_column], dataset.snapshot().ids())))
            for unit in cut(with_tries(new), rows) if new.num_rows else ():
                results, failures = worker.process(unit.inputs)
                name = term.handle.part_name(unit.inputs[dataset.id_column].to_pylist())
                term.handle.commit(name, results, failures)
                failed += failures.num_rows
    return SimpleNamespace(failed=failed)


@contextmanager
def tokens_without_ray() -> Iterator[None]:
    """Text becomes tokens in this process while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "run", run)
        patch.setattr(tokens, "shipped", lambda make, *shared: lambda plan: partial(make, plan, *shared))
        yield
