"""``--dry-run`` of a training: some steps are done as they would be, and the whole is estimated.

The steps go the way of a real training: the same data, workers, learner and writer of a run folder, but in a folder of
their own that is removed again. Steps, a part of a validation and a checkpoint are timed; the others are taken to last
as long.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from pydantic import TypeAdapter
from torch import Tensor

from feature_store import Store
from pipelines.cluster.connection import connect, is_joining
from pipelines.cluster.waiting import share_out_when_there
from pipelines.config.recipe import Recipe
from pipelines.config.sections import PairData
from pipelines.config.training_sections import Training
from pipelines.console import WAITING, Outcome, tell
from pipelines.engine.actor import peak_memory
from pipelines.engine.dry_run import Estimate, Price, student, temporary_folder, temporary_store, time_needed
from pipelines.engine.summary import significant
from pipelines.errors import UserError
from pipelines.training import distributed
from pipelines.training.data.feature_batches import Batch
from pipelines.training.data.task import Task, prepare
from pipelines.training.driver import Job, check_before_data, data_files, refuse_changed_text, refuse_other_data
from pipelines.training.launch import TrainJob, fit
from pipelines.training.learner import WORDS, Learner
from pipelines.training.optimizer import check_precision
from pipelines.training.run.folder import last_epoch
from pipelines.training.run.info import RunPlace, read_run
from pipelines.training.run.state import TrainState
from pipelines.training.run.writer import RunClient, run_writer
from rnncond.checkpoint import pack
from rnncond.losses import TeacherForcing

WARM_UP = 3
"""Steps that are not counted: the first ones read the features, fill caches and may compile."""
MEASURED = "measured.json"


class Took(NamedTuple):
    """Seconds of the clock, and of the process's own processor time."""

    seconds: float
    processor: float


class Measured(NamedTuple):
    """What a worker measured.

    Attributes:
        begun: when the first step began, in seconds since the epoch of Unix.
        warm_up: what the first steps took that are not counted.
        steps: of each of the others, what it took.
        words: that these had, on all ranks, together.
        steps_per_epoch: of a whole epoch.
        validations: of some batches of a validation, what each took.
        batches_per_validation: of a whole validation, on each rank.
        scores: what scoring the sentences of a validation takes.
        checkpoint: what saving an epoch's models and state takes.
        state_bytes, model_bytes: a checkpoint's size, and a model's.
        memory, gpu_memory: the most bytes that the worker held.
    """

    begun: float
    warm_up: Took
    steps: list[Took]
    words: float
    steps_per_epoch: int
    validations: list[Took]
    batches_per_validation: int
    scores: Took
    checkpoint: Took
    state_bytes: int
    model_bytes: int
    memory: int
    gpu_memory: int

    @classmethod
    def read(cls, path: Path) -> Measured:
        return TypeAdapter(cls).validate_json(path.read_bytes())


class MeasuringLearner(Learner):
    """A learner that does a few steps, a part of a validation and a checkpoint, and hands in what they took.

    Args:
        sample: steps that are timed.
    """

    def __init__(self, *args: Any, sample: int, **more: Any) -> None:
        super().__init__(*args, **more)
        self.sample = sample

    def run(self) -> TrainState:
        begun, start = time.time(), self.clock()
        self.objective.train()
        steps = self.endless()
        for batches in islice(steps, WARM_UP):
            self.step(batches)
        warm_up = self.since(start)
        taken, words = [], 0.0
        for batches in islice(steps, self.sample):
            start = self.clock()
            words += self.step(batches)[WORDS].item()
            taken.append(self.since(start))
        steps.close()
        validations, scores = self.part_of_validation()
        start = self.clock()
        state, model = self.state(), pack(self.trained({"epoch": 1}))
        if distributed.rank() == 0:
            self.sink.save_checkpoint(self.train_state.steps, state, {"last": model, "best": model})
            measured = Measured(
                begun=begun,
                warm_up=warm_up,
                steps=taken,
                words=words * distributed.count(),
                steps_per_epoch=self.steps,
                validations=validations,
                batches_per_validation=self.validation.steps,
                scores=scores,
                checkpoint=self.since(start),
                state_bytes=sum(map(len, state.values())),
                model_bytes=sum(map(len, model.values())),
                memory=peak_memory(),
                gpu_memory=torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0,
            )
            cast(RunClient, self.sink).write(MEASURED, json.dumps(measured._asdict()))
        return self.train_state

    def endless(self) -> Generator[list[Batch], None, None]:
        """The batches of each step, epoch after epoch."""
        while True:
            yield from self.parts_of_steps()
            self.train_state.epoch, self.train_state.step = self.train_state.epoch + 1, 0

    def step(self, batches: list[Batch]) -> Tensor:
        sums = self.update(batches)
        self.train_state.step, self.train_state.steps = self.train_state.step + 1, self.train_state.steps + 1
        return sums

    @torch.no_grad()
    def part_of_validation(self) -> tuple[list[Took], Took]:
        """What some batches of the validation take, and the scores of all its sentences."""
        self.objective.eval()
        taken, sentences = [], list[str]()
        count = min(self.validation.steps, 1 + math.ceil(self.sample / 4))
        batches = self.validation.epoch()
        for batch in islice(batches, count):
            start = self.clock()
            TeacherForcing(self.model)(batch.source.to(self.device), batch.tokens.to(self.device))
            # A model that has learned nothing does not know where to end: it is to write as much as people did.
            length = min(max(batch.tokens.shape[1] - 2, 1), self.recipe.search["max_length"])
            sentences += self.decode(batch, min_length=length, max_length=length)
            taken.append(self.since(start))
        start = self.clock()
        if distributed.rank() == 0:
            self.task.scores({n: sentences[n % len(sentences)] for n in range(self.task.count())})
        return taken[1:] or taken, self.since(start)

    def clock(self) -> Took:
        """Now, when all that was asked of a GPU is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return Took(time.monotonic(), time.process_time())

    def since(self, start: Took) -> Took:
        now = self.clock()
        return Took(now.seconds - start.seconds, now.processor - start.processor)


class Cost(NamedTuple):
    """What a training takes, without its start: seconds, the standard error of these, processor seconds of a worker,
    and bytes, written in all and kept."""

    seconds: float
    error: float
    processor: float
    written: int
    kept: int


def cost(measured: Measured, training: Training, epochs: int) -> Cost:
    """What ``epochs`` more of a training take, by what a worker measured."""
    validations = math.ceil(epochs / training.validate_every)
    saved_within = (measured.steps_per_epoch - 1) // training.checkpoint_steps if training.checkpoint_steps else 0
    checkpoints = epochs * (1 + saved_within)

    def total(of: int) -> float:
        """``of`` is the place in ``Took``."""
        steps = epochs * measured.steps_per_epoch * statistics.mean(step[of] for step in measured.steps)
        batches = measured.batches_per_validation * statistics.mean(batch[of] for batch in measured.validations)
        return steps + validations * (batches + measured.scores[of]) + checkpoints * measured.checkpoint[of]

    steps, batches = ([took.seconds for took in taken] for taken in (measured.steps, measured.validations))
    error = math.hypot(
        epochs * measured.steps_per_epoch * error_of_mean(steps),
        validations * measured.batches_per_validation * error_of_mean(batches),
    )
    models = 2 + (training.average_last or -1) + 1
    return Cost(
        seconds=total(0),
        error=error,
        processor=total(1),
        written=checkpoints * measured.state_bytes + (epochs + validations) * measured.model_bytes,
        kept=2 * measured.state_bytes + models * measured.model_bytes,
    )


def error_of_mean(values: list[float]) -> float:
    """The standard error of their mean; of one value nothing is known, and as much as it is itself is taken."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else values[0]


def between(seconds: float, error: float, count: int) -> Estimate:
    """With the bounds between which it lies with 95% probability, by Student's t of ``count`` values."""
    error *= student(count)
    return Estimate(seconds, max(seconds - error, 0.0), seconds + error)


def run(
    job: TrainJob, address: str | None, restart: bool, sample: int, price_per_hour: str | None, wait_seconds: float
) -> Outcome:
    """Try some steps of a training, and estimate all that is left of it.

    Raises:
        UserError: as the training would; a price without a currency.
    """
    price = None if price_per_hour is None else Price.parse(price_per_hour)
    refused = refusal(lambda: check_folder(job), restart)
    done = 0 if restart or refused else last_epoch(job.folder / "metrics.jsonl")
    training = job.recipe.training
    if done >= training.epochs:
        return Outcome({"epochs": training.epochs, "already done": done}, hint="Nothing is left to train.")
    began = time.time()
    check_before_data(job.recipe)
    with temporary_data(job.recipe, address) as recipe, temporary_folder() as name:
        folder = Path(name)
        task, about = prepare(recipe, address)
        job.check(task)
        if not refused:
            refused = refusal(lambda: check_data(job, task), restart)
            done = 0 if refused else done
        with connect(address) as cluster:
            share = share_out_when_there(job.share_out, cluster, job.recipe.cluster, wait_seconds)
            check_precision(training, share.device)
            tell(f"Trying {WARM_UP} + {sample} steps: {share.describe()}; {task.describe()}")
            WAITING.phase("trying")
            with run_writer(folder) as writer:
                client = RunClient(writer)
                client.open(recipe.to_yaml(), {})
                fit(task, client, share, RunPlace.at(str(folder)), partial(MeasuringLearner, sample=sample))
        measured = Measured.read(folder / MEASURED)
    needed = cost(measured, training, training.epochs - done)
    facts: dict[str, Any] = {
        name: about[name] for name in ("images", "captions", "pairs", "validation_images") if name in about
    }
    facts |= {"epochs": training.epochs, "already done": done}
    facts |= described(measured, share.workers)
    facts |= figures(
        startup(measured, began), between(needed.seconds, needed.error, sample), needed, share.describe(), price
    )
    return Outcome(facts, hint=hint(began, training.early_stopping.patience, refused), code=0)


def refusal(check: Callable[[], object], restart: bool) -> str:
    """Why the folder would not be taken for a real run, if ``check`` says so; a dry run changes nothing in it."""
    try:
        if not restart:
            check()
    except UserError as error:
        return str(error)
    return ""


def check_folder(job: Job[Any]) -> None:
    """Raises UserError where the job's folder has a run of another recipe, or of other text."""
    info = read_run(job.folder)
    job.changed(info)
    refuse_changed_text(job.place.shown, info, job.recipe, data_files(job.recipe))


def check_data(job: Job[Any], task: Task) -> None:
    """Raises OtherRun where it has one of other captions or features. Tokens are in a store of their own here, where
    their order may be another."""
    if not isinstance(job.recipe.data, PairData):
        refuse_other_data(job.place.shown, read_run(job.folder), task.data_id, data_files(job.recipe))


def startup(measured: Measured, began: float) -> float:
    """Seconds from ``began`` to the first step, and what the first steps take more than others."""
    usual = WARM_UP * statistics.mean(step.seconds for step in measured.steps)
    return measured.begun - began + max(measured.warm_up.seconds - usual, 0.0)


def described(measured: Measured, workers: int = 1) -> dict[str, Any]:
    """What was tried, how fast that was, and how much memory a worker held."""
    gpu = {"gigabytes of GPU memory": significant(measured.gpu_memory / 1e9)} if measured.gpu_memory else {}
    return {
        "steps an epoch": measured.steps_per_epoch,
        "steps tried": len(measured.steps),
        "words_per_second": round(measured.words / max(sum(step.seconds for step in measured.steps), 1e-9), 1),
        "seconds a step": round(statistics.mean(step.seconds for step in measured.steps), 4),
        "gigabytes of memory per worker": significant(measured.memory / 1e9),
        **gpu,
    }


def figures(startup: float, needed: Estimate, total: Cost, workers: str, price: Price | None) -> dict[str, Any]:
    """Hours, gigabytes and the price of the whole.

    Args:
        startup: seconds before the first step, which ``needed`` is without.
    """
    needed = needed.after(startup)
    shown: dict[str, Any] = {
        **time_needed(startup, needed),
        "processor hours of each worker": significant(total.processor / 3600),
        "gigabytes written": significant(total.written / 1e9),
        "gigabytes kept": significant(total.kept / 1e9),
        "workers": workers,
    }
    if price is not None:
        shown["price"] = price.of(*needed.hours)
    return shown


def hint(began: float, patience: int | None, refused: str = "") -> str:
    sooner = "" if patience is None else " Every epoch is counted; early stopping may end it sooner."
    real = f"\nWithout --dry-run the same command would be refused, so all epochs were counted: {refused}"
    return f"Nothing was kept. Trying took {time.time() - began:.0f} s.{sooner}{real if refused else ''}"


@contextmanager
def temporary_data(recipe: Recipe, address: str | None) -> Iterator[Recipe]:
    """The recipe, whose text is tokenised into a store that is removed; features are read where they are."""
    if not hasattr(recipe.data, "source"):
        yield recipe
        return
    with temporary_store(Store(recipe.data.store), is_joining(address)) as store:
        data = recipe.data.model_copy(update={"store": store.files.shown})
        yield recipe.model_copy(update={"data": data})
