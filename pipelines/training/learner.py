"""The training loop of one rank, with or without Ray.

Nothing random is carried from step to step: the order of the data is a function of seed, epoch and rank, and dropout
of seed, step and rank. A run that goes on from a checkpoint therefore equals the unbroken one, bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from pipelines.config.recipe import Recipe
from pipelines.errors import UserError
from pipelines.training import distributed
from pipelines.training.data.feature_batches import Batch
from pipelines.training.data.task import Task
from pipelines.training.objectives import TALLY, at_step, make_objective, means, tally
from pipelines.training.optimizer import PRECISIONS, Optimizer, check_precision, factor, mean, swapped_weights
from pipelines.training.run_folder import Folder
from pipelines.training.state import NOTHING, Position, decide
from rnncond import systems
from rnncond.checkpoint import WEIGHTS, Trained, pack
from rnncond.losses import Sums, TeacherForcing
from rnncond.objectives import Rewarded
from rnncond.search import SearchOptions, search
from rnncond.standardise import Standardise
from rnncond.text import Vocabulary

WORDS = TALLY.index("words")
PROGRESS_SECONDS = 1.0
"""Between two notes to the terminal."""


class Desk(Protocol):
    """Where a rank hands in its work: a ``RunFolder``, or the proxy of one on another machine."""

    def checkpoint(self) -> Folder | None: ...
    def keep(
        self, step: int, state: Folder, models: dict[str, Folder] | None = None, history: int | None = None
    ) -> None: ...
    def history(self) -> list[Folder]: ...
    def keep_average(self, model: Folder, line: dict[str, Any]) -> None: ...
    def epoch(self, line: dict[str, Any], samples: list[dict[str, Any]]) -> None: ...
    def progress(self, **values: Any) -> None: ...


class Learner:
    """One rank's model, optimizer and position. ``run`` trains to the end."""

    def __init__(
        self,
        task: Task,
        desk: Desk,
        device: torch.device | str = "cpu",
        report: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> None:
        self.task, self.desk, self.device, self.report = task, desk, torch.device(device), report
        self.recipe, self.settings = task.recipe, task.recipe.training
        check_precision(self.settings, self.device.type)
        self.vocabulary = Vocabulary.from_json(task.vocabulary)
        self.train, self.validation = task.batches(distributed.rank(), distributed.count())
        self.accumulate = accumulated(self.recipe)
        self.steps = math.ceil(self.train.steps / self.accumulate)
        torch.manual_seed(self.recipe.seed)
        sizes = {"vocab_size": len(self.vocabulary)} | task.sizes()
        self.model = systems.build(self.recipe.system, self.recipe.model | sizes).to(self.device)
        self.optimizer = Optimizer(self.model, self.settings, self.device)
        self.position = Position(ranks=distributed.count())
        self.restore(distributed.share(desk.checkpoint() if distributed.rank() == 0 else None))
        reward = task.reward(self.device) if self.settings.objective.kind == "self_critical" else None
        self.objective = distributed.wrap(make_objective(self.recipe, self.model, reward), self.device)
        self.noted = 0.0

    def run(self) -> Position:
        while self.position.epoch < self.settings.epochs and not self.position.finished:
            self.train_epoch()
            self.end_epoch()
        if self.settings.average_last is not None:
            self.average_models()
        return self.position

    def train_epoch(self) -> None:
        at = self.position
        self.objective.train()
        sums = self.tensor(at.sums)
        began = time.monotonic() - at.seconds
        for batches in self.parts_of_steps():
            sums += self.update(batches)
            at.step, at.steps = at.step + 1, at.steps + 1
            at.seconds = time.monotonic() - began
            self.note(sums)
            every = self.settings.checkpoint_steps
            if every and at.step % every == 0 and at.step < self.steps:
                self.checkpoint(sums)
                began = time.monotonic() - at.seconds  # the clock stands still for it
        at.sums = sums.tolist()

    def parts_of_steps(self) -> Iterator[list[Batch]]:
        """The batches of each step that is left of the epoch; the last may have fewer than the others."""
        count = self.accumulate
        left = self.train.epoch(self.position.epoch + 1, self.position.step * count)
        while batches := list(islice(left, count)):
            yield batches

    def tensor(self, numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64, device=self.device)

    def update(self, batches: Sequence[Batch]) -> Tensor:
        """One step; returns its ``TALLY`` on this rank."""
        at = self.position
        torch.manual_seed(mixed(self.recipe.seed, at.steps, distributed.rank()))
        words = distributed.total(torch.tensor(float(sum(batch.words for batch in batches)), device=self.device))
        sums = self.tensor(NOTHING)
        for number, batch in enumerate(batches, 1):
            with nullcontext() if number == len(batches) else distributed.no_sync(self.objective):
                found = self.forward(batch)
                # DistributedDataParallel averages over ranks; with this the objective is divided by all words once.
                self.optimizer.backward(found.objective * distributed.count() / words)
            sums += tally(found, batch.words)
        at.skipped += not self.optimizer.step(self.rate(), at.steps)
        return sums

    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.settings.learning_rate * factor(self.settings, self.position, self.steps)

    def forward(self, batch: Batch) -> Sums | Rewarded:
        dtype = PRECISIONS[self.settings.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            return self.objective(
                batch.source.to(self.device),
                batch.tokens.to(self.device),
                *at_step(self.settings, self.position.steps),
            )

    def end_epoch(self) -> None:
        """Validate, decide, and hand in what the epoch brought."""
        at = self.position
        at.epoch, at.step = at.epoch + 1, 0
        sums = distributed.total(self.tensor(at.sums))
        objective, words = (sums[TALLY.index(name)].item() for name in ("objective", "words"))
        if not math.isfinite(objective):
            raise UserError(
                f"The loss of epoch {at.epoch} is {objective}. Lower training.learning_rate (now "
                f"{self.settings.learning_rate:g}) or set training.clip_norm."
            )
        line = {"epoch": at.epoch, "step": at.steps, **means(self.settings, sums), "learning_rate": self.rate()}
        if self.settings.precision == "float16":
            line["skipped_steps"] = at.skipped
        samples: list[dict[str, Any]] = []
        improved = False
        with swapped_weights(self.model, self.optimizer.average):
            if at.epoch % self.settings.validate_every == 0 or at.epoch == self.settings.epochs:
                scores, samples = self.validate()
                line |= scores
                improved = decide(at, self.settings, scores)
            line |= {"seconds": at.seconds, "words_per_second": words / max(at.seconds, 1e-9)}
            last = pack(self.trained(line)) if distributed.rank() == 0 else {}
        at.sums, at.seconds = NOTHING, 0.0
        if distributed.rank() == 0:
            self.desk.epoch(line, samples)
            models = {"last": last, "best": last} if improved else {"last": last}
            self.desk.keep(at.steps, self.state(), models, self.settings.average_last)
        self.report(line)

    def average_models(self) -> None:
        """Hand in the mean of the last epochs' models, with its scores."""
        history = self.desk.history() if distributed.rank() == 0 else []
        models = [safetensors.torch.load(folder[WEIGHTS]) for folder in history]
        weights = distributed.share(mean(models) if models else None)
        with swapped_weights(self.model, weights):
            scores, _ = self.validate()
            if distributed.rank() == 0:
                line = {"epoch": self.position.epoch, "averaged_epochs": len(models), **scores}
                self.desk.keep_average(pack(self.trained(line)), line)

    def validate(self) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Loss and scores of the validation split, the same on every rank; and some of the sentences."""
        self.objective.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        said: dict[int, str] = {}
        with torch.no_grad():
            for batch in self.validation.epoch():
                found = TeacherForcing(self.model)(batch.source.to(self.device), batch.tokens.to(self.device))
                sums += torch.stack([found.loss.double(), found.words.double()])
                said |= zip(batch.examples.tolist(), self.say(batch), strict=False)
        loss, words = distributed.total(sums).tolist()
        for others in distributed.gather(said):
            said |= others
        scores: dict[str, float] = {}
        if distributed.rank() == 0:
            found = self.task.scores(said)
            scores = {"val_loss": loss / words} | {name: float(value) for name, value in found.items()}
        count = self.task.count()
        chosen = np.linspace(0, count - 1, min(self.settings.samples, count), dtype=int).tolist()
        return distributed.share(scores), [self.task.sample(example, said[example]) for example in chosen]

    def say(self, batch) -> list[str]:
        memory = self.model.encode(batch.source.to(self.device))
        found = search(self.model.step, memory, self.model.init_state(memory), SearchOptions(**self.recipe.search))
        return [self.vocabulary.decode(words) for words in found.tokens[:, 0].tolist()]

    def checkpoint(self, sums: Tensor) -> None:
        """The state in the middle of an epoch. The epoch's sums so far are kept by rank 0 for all ranks."""
        at = self.position
        total = distributed.total(sums.clone()).tolist()
        if distributed.rank() == 0:
            self.desk.keep(at.steps, self.state(**dict(zip(TALLY, total, strict=True))))

    def state(self, **changes: Any) -> Folder:
        """Weights, optimizer and position as the files of a checkpoint."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= self.optimizer.tensors()
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        numbers = {
            "position.json": dataclasses.asdict(self.position) | changes,
            "scaler.json": self.optimizer.scaler.state_dict(),
        }
        files = {name: json.dumps(values).encode() for name, values in numbers.items()}
        return {"state.safetensors": safetensors.torch.save(tensors), **files}

    def restore(self, state: Folder | None) -> None:
        """Go on from ``state``; without one begin."""
        if state is None:
            self.begin()
            return
        tensors = safetensors.torch.load(state["state.safetensors"])
        self.model.load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        )
        self.optimizer.restore(tensors)
        self.optimizer.scaler.load_state_dict(json.loads(state["scaler.json"]))
        self.position = Position.read(state["position.json"])
        if self.position.ranks != distributed.count():
            # The order of an epoch depends on the number of ranks: one that was begun by another number begins again.
            self.position = dataclasses.replace(self.position, ranks=distributed.count(), step=0)
            self.position.sums = NOTHING
        if distributed.rank() > 0:
            self.position.sums = NOTHING

    def begin(self) -> None:
        """Take the weights of ``training.start_from``, or the measure of the features."""
        if self.task.start is not None:
            self.model.load_state_dict(self.task.start)
        else:
            measures = [module for module in self.model.modules() if isinstance(module, Standardise)]
            found = distributed.share(self.train.statistics() if distributed.rank() == 0 and measures else None)
            for module in measures:
                module.fit(*(values.to(self.device) for values in found))
        self.optimizer.begin()

    def trained(self, line: dict[str, Any]) -> Trained:
        info = {"recipe": self.recipe.model_dump(), **line}
        source = self.task.source_vocabulary and Vocabulary.from_json(self.task.source_vocabulary)
        return Trained(self.recipe.system, self.model, self.vocabulary, source, self.task.features, info)

    def note(self, sums: Tensor) -> None:
        """Tell the terminal how far the epoch is, now and then."""
        at = self.position
        if distributed.rank() == 0 and time.monotonic() - self.noted >= PROGRESS_SECONDS:
            self.noted = time.monotonic()
            words = sums[WORDS].item() * distributed.count()  # of the others as many, nearly
            pace = {"learning_rate": self.rate(), "words_per_second": words / max(at.seconds, 1e-9)}
            place = {"epoch": at.epoch + 1, "step": at.step, "of": self.steps, "steps": at.steps}
            self.desk.progress(**place, **means(self.settings, sums), **pace)


def accumulated(recipe: Recipe) -> int:
    """Batches of each rank that make a step. Where some workers of an elastic run are away, the others do their share,
    as nearly as whole batches can."""
    asked = recipe.cluster
    missing = asked.workers / distributed.count() if asked.min_workers else 1
    return max(1, round(recipe.training.accumulate * missing))


def mixed(*numbers: int) -> int:
    """A seed from several numbers, in which near ones have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
