"""How far a training has come, what its validations decide, and the checkpoints that both are kept in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipelines.config.metrics import rank_of
from pipelines.errors import UserError
from pipelines.training.run.info import refuse_newer

if TYPE_CHECKING:  # it loads torch, which the process that writes run folders does without
    from pipelines.config.training_sections import Training

Folder = dict[str, bytes]
"""A folder's files by name."""
CHECKPOINTS = 2
"""Checkpoints that are kept: should the newest be damaged, there is the one before it."""
SUMS = "sha256.json"
"""In a checkpoint: SHA-256 of each of its files."""
Place = TypeVar("Place")
"""Where a checkpoint is: a folder, or files in object storage."""
TALLY = ("objective", "loss", "words", "reward", "baseline", "examples")
"""The sums that are kept over the steps of an epoch."""
NO_SUMS = (0.0,) * len(TALLY)
SCHEMA = 1
"""Of position.json."""
BEFORE_SCHEMA_1 = {"waited": "bad_epochs", "rate": "lr_factor", "lowest": "best_val_loss", "flat": "plateau_epochs"}
"""What rnncond 0.1.0, whose files name no schema, called some attributes of ``TrainState``."""


@dataclass
class TrainState:
    """How far a run has come, and what later decisions need to know of the way: plain numbers.

    Attributes:
        epoch: finished epochs.
        step: finished steps of the epoch under way. A step changes the weights once, by ``training.accumulate`` batches
            of each rank.
        steps: finished steps of all epochs.
        skipped: those of ``steps`` whose gradients float16 could not hold.
        ranks: workers that train the epoch under way.
        best, best_epoch: the best value of the early-stopping metric, the higher the better, and where.
        loss_of_best: the validation loss there, which decides among equal values.
        bad_epochs: epochs validated since the best one.
        lr_factor: what the plateau schedule has made of the learning rate.
        best_val_loss: the lowest validation loss, for the plateau schedule.
        plateau_epochs: epochs validated since that one, or since the schedule last lowered the learning rate.
        objective, loss, words, reward, baseline, examples: ``TALLY`` over this rank's steps of the epoch under way.
        seconds: spent on the steps of the epoch under way, without checkpoints.
        finished: whether early stopping has ended the run.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    skipped: int = 0
    ranks: int = 1
    best: float | None = None
    loss_of_best: float = math.inf
    best_epoch: int = 0
    bad_epochs: int = 0
    lr_factor: float = 1.0
    best_val_loss: float = math.inf
    plateau_epochs: int = 0
    objective: float = 0.0
    loss: float = 0.0
    words: float = 0.0
    reward: float = 0.0
    baseline: float = 0.0
    examples: float = 0.0
    seconds: float = 0.0
    finished: bool = False

    @classmethod
    def from_json(cls, content: bytes) -> TrainState:
        """Read the position.json of a checkpoint.

        Raises:
            UserError: a newer version of rnncond wrote it, or it has or lacks what no version had or lacked.
        """
        values = json.loads(content)
        schema = values.pop("schema", 0)
        refuse_newer("The checkpoint's position.json", schema, SCHEMA)
        if schema == 0:
            values = {BEFORE_SCHEMA_1.get(name, name): value for name, value in values.items()}
        expected = {field.name for field in dataclasses.fields(cls)}
        if unknown := values.keys() - expected:
            raise UserError(
                f"The checkpoint's position.json has {', '.join(sorted(unknown))}, which this version of rnncond does "
                f"not know; it expects {', '.join(sorted(expected))}. Resume with the version that run.json names, or "
                "give --restart to begin again."
            )
        return cls(**values)

    def to_json(self) -> bytes:
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}).encode()

    @property
    def sums(self) -> list[float]:
        return [getattr(self, name) for name in TALLY]

    @sums.setter
    def sums(self, numbers: Sequence[float]) -> None:
        for name, number in zip(TALLY, numbers, strict=True):
            setattr(self, name, number)


def decide(state: TrainState, settings: Training, scores: dict[str, float]) -> bool:
    """Take note of a validation; returns whether it is the best so far.

    Lowers the learning rate of the plateau schedule where its patience is at an end, and ends the run where that of
    early stopping is.
    """
    metric, schedule = settings.early_stopping.metric, settings.schedule
    rank = rank_of(scores, metric)
    improved = state.best is None or rank > (state.best, -state.loss_of_best)
    if improved:
        state.best, state.loss_of_best, state.best_epoch, state.bad_epochs = rank[0], scores["val_loss"], state.epoch, 0
    else:
        state.bad_epochs += 1
    if schedule.kind == "plateau":
        state.plateau_epochs = 0 if scores["val_loss"] < state.best_val_loss else state.plateau_epochs + 1
        state.best_val_loss = min(state.best_val_loss, scores["val_loss"])
        if state.plateau_epochs >= schedule.patience:
            state.lr_factor, state.plateau_epochs = state.lr_factor * schedule.factor, 0
    patience = settings.early_stopping.patience
    state.finished = patience is not None and state.bad_epochs >= patience
    return improved


def mixed(*numbers: int) -> int:
    """A seed from several numbers; seeds from numbers that are near have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def step_name(step: int) -> str:
    """How the folder of what is kept of a step is called; names are in the order of steps."""
    return f"step-{step:08d}"


def with_sums(state: Folder) -> Folder:
    """A checkpoint's files, and with them the SHA-256 of each."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in state.items()}
    return {**state, SUMS: json.dumps(digests).encode()}


def newest_whole(
    out: str,
    checkpoints: Mapping[str, Place],
    read: Callable[[Place], tuple[Folder, str]],
    note: Callable[[str, str], None],
) -> Folder | None:
    """The state of the newest checkpoint that is whole; None where there is no checkpoint.

    Args:
        out: the run folder, for messages.
        checkpoints: by their names.
        read: gives the files of one, and what is wrong with them; see ``read_checkpoint``.
        note: is given the name of each that is damaged, and a message.

    Raises:
        UserError: all are damaged.
    """
    damage = ""
    for name in sorted(checkpoints, reverse=True):
        state, damage = read(checkpoints[name])
        if not damage:
            return state
        note(name, f"{out}: the checkpoint {name} is damaged ({damage}); the run resumes from the one before it.")
    if checkpoints:
        raise UserError(
            f"The run cannot be resumed from any checkpoint in {out}: {min(checkpoints)}: {damage}. Put back a copy of "
            "one, or give --restart to begin again; best/ and last/ are models of their own."
        )
    return None


def read_checkpoint(folder: Path) -> tuple[Folder, str]:
    """The files of a checkpoint, and what is wrong with them; nothing is the empty string."""
    state: Folder = {}
    try:
        sums = json.loads((folder / SUMS).read_bytes())
        for name, digest in sums.items():
            state[name] = (folder / name).read_bytes()
            if hashlib.sha256(state[name]).hexdigest() != digest:
                return {}, f"{name}, {len(state[name]):,} bytes, is not what was written"
    except (OSError, ValueError, AttributeError) as error:
        return {}, str(error)
    return state, ""
