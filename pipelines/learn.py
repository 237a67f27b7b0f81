"""The training loop of one rank, with or without Ray.

Nothing random is carried from step to step: the order of the data is a function of seed, epoch and rank, and dropout
of seed, step and rank. A run that goes on from a checkpoint therefore equals the unbroken one, bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from pipelines import ranks
from pipelines.console import UserError
from pipelines.journal import Folder
from pipelines.objectives import TALLY, at_step, make_objective, means, tally
from pipelines.task import Task
from rnncond import systems
from rnncond.checkpoint import Trained, pack
from rnncond.features import Standardise
from rnncond.losses import TeacherForcing
from rnncond.search import SearchOptions, search
from rnncond.text import Vocabulary

PROGRESS_SECONDS = 1.0
"""Between two notes to the terminal."""
NOTHING = (0.0,) * len(TALLY)


class Desk(Protocol):
    """Where a rank hands in its work: a ``Journal``, or the proxy of one on another machine."""

    def checkpoint(self) -> Folder | None: ...
    def keep(self, step: int, state: Folder, models: dict[str, Folder] | None = None) -> None: ...
    def epoch(self, line: dict[str, Any], samples: list[dict[str, Any]]) -> None: ...
    def progress(self, **values: Any) -> None: ...


@dataclass
class Position:
    """How far a run has come, and what later decisions need to know of the way; plain numbers.

    Attributes:
        epoch: finished epochs; ``step`` finished steps of the one under way, ``steps`` of all.
        best, best_epoch: the best value of the early-stopping metric, and where.
        waited: epochs validated since.
        rate: what the plateau schedule has made of the learning rate, as a factor.
        lowest, flat: lowest validation loss, and epochs since; for the plateau schedule.
        objective, loss, words, reward, baseline, examples: ``TALLY`` over this rank's steps of the epoch under way.
        seconds: spent on the epoch under way.
        finished: stopped early.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    ranks: int = 1
    best: float | None = None
    best_epoch: int = 0
    waited: int = 0
    rate: float = 1.0
    lowest: float = math.inf
    flat: int = 0
    objective: float = 0.0
    loss: float = 0.0
    words: float = 0.0
    reward: float = 0.0
    baseline: float = 0.0
    examples: float = 0.0
    seconds: float = 0.0
    finished: bool = False

    @property
    def sums(self) -> list[float]:
        return [getattr(self, name) for name in TALLY]

    @sums.setter
    def sums(self, numbers: Sequence[float]) -> None:
        for name, number in zip(TALLY, numbers, strict=True):
            setattr(self, name, number)


class Learner:
    """One rank's model, optimiser and position. ``run`` trains to the end."""

    def __init__(
        self,
        task: Task,
        desk: Desk,
        device: torch.device | str = "cpu",
        report: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> None:
        self.task, self.desk, self.device, self.report = task, desk, torch.device(device), report
        self.recipe, self.settings = task.recipe, task.recipe.training
        self.vocabulary = Vocabulary.from_json(task.vocabulary)
        self.train, self.validation = task.batches(ranks.rank(), ranks.count())
        torch.manual_seed(self.recipe.seed)
        sizes = {"vocab_size": len(self.vocabulary)} | task.sizes()
        self.model = systems.build(self.recipe.system, self.recipe.model | sizes).to(self.device)
        self.optimiser = make_optimiser(self.model, self.settings)
        self.position = Position(ranks=ranks.count())
        self.restore(ranks.share(desk.checkpoint() if ranks.rank() == 0 else None))
        reward = task.reward(self.device) if self.settings.objective.kind == "self_critical" else None
        self.objective = ranks.wrap(make_objective(self.recipe, self.model, reward), self.device)
        self.noted = 0.0

    def run(self) -> Position:
        while self.position.epoch < self.settings.epochs and not self.position.finished:
            self.train_epoch()
            self.end_epoch()
        return self.position

    def train_epoch(self) -> None:
        at = self.position
        self.objective.train()
        sums = self.tensor(at.sums)
        began = time.monotonic() - at.seconds
        for batch in self.train.epoch(at.epoch + 1, at.step):
            sums += self.update(batch)
            at.step, at.steps = at.step + 1, at.steps + 1
            at.seconds = time.monotonic() - began
            self.note(sums)
            every = self.settings.checkpoint_steps
            if every and at.step % every == 0 and at.step < self.train.steps:
                self.checkpoint(sums)
        at.sums = sums.tolist()

    def tensor(self, numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64, device=self.device)

    def update(self, batch) -> Tensor:
        """One step; returns its ``TALLY`` on this rank."""
        at = self.position
        torch.manual_seed(mixed(self.recipe.seed, at.steps, ranks.rank()))
        rate = self.settings.learning_rate * factor(self.settings, at, self.train.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        words = ranks.total(torch.tensor(float(batch.words), device=self.device))
        found = self.forward(batch)
        # DistributedDataParallel averages over ranks; together with this the objective is divided by all words once.
        (found.objective * ranks.count() / words).backward()
        if self.settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return tally(found, batch.words)

    def forward(self, batch):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            return self.objective(
                batch.source.to(self.device),
                batch.tokens.to(self.device, non_blocking=True),
                *at_step(self.settings, self.position.steps),
            )

    def end_epoch(self) -> None:
        """Validate, decide, and hand in what the epoch brought."""
        at = self.position
        at.epoch, at.step = at.epoch + 1, 0
        sums = ranks.total(self.tensor(at.sums))
        objective, words = (sums[TALLY.index(name)].item() for name in ("objective", "words"))
        if not math.isfinite(objective):
            raise UserError(
                f"The loss of epoch {at.epoch} is {objective}. Lower training.learning_rate (now "
                f"{self.settings.learning_rate:g}) or set training.clip_norm."
            )
        rate = self.settings.learning_rate * factor(self.settings, at, self.train.steps)
        line = {"epoch": at.epoch, "step": at.steps, **means(self.settings, sums), "learning_rate": rate}
        samples: list[dict[str, Any]] = []
        improved = False
        if at.epoch % self.settings.validate_every == 0 or at.epoch == self.settings.epochs:
            scores, samples = self.validate()
            line |= scores
            improved = decide(at, self.settings, scores)
        line |= {"seconds": at.seconds, "words_per_second": words / max(at.seconds, 1e-9)}
        at.sums, at.seconds = NOTHING, 0.0
        if ranks.rank() == 0:
            self.desk.epoch(line, samples)
            last = pack(self.trained(line))
            self.desk.keep(at.steps, self.state(), {"last": last, "best": last} if improved else {"last": last})
        self.report(line)

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
        loss, words = ranks.total(sums).tolist()
        for others in ranks.gather(said):
            said |= others
        scores: dict[str, float] = {}
        if ranks.rank() == 0:
            found = self.task.scores(said)
            scores = {"val_loss": loss / words} | {name: float(value) for name, value in found.items()}
        count = self.task.count()
        chosen = np.linspace(0, count - 1, min(self.settings.samples, count), dtype=int).tolist()
        return ranks.share(scores), [self.task.sample(example, said[example]) for example in chosen]

    def say(self, batch) -> list[str]:
        memory = self.model.encode(batch.source.to(self.device))
        found = search(self.model.step, memory, self.model.init_state(memory), SearchOptions(**self.recipe.search))
        return [self.vocabulary.decode(words) for words in found.tokens[:, 0].tolist()]

    def checkpoint(self, sums: Tensor) -> None:
        """The state in the middle of an epoch. The epoch's sums so far are kept by rank 0 for all ranks."""
        at = self.position
        total = ranks.total(sums.clone()).tolist()
        if ranks.rank() == 0:
            self.desk.keep(at.steps, self.state(**dict(zip(TALLY, total, strict=True))))

    def state(self, **changes: Any) -> Folder:
        """Weights, optimiser and position as the files of a checkpoint."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for index, values in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in values.items()}
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        position = dataclasses.asdict(self.position) | changes
        return {"state.safetensors": safetensors.torch.save(tensors), "position.json": json.dumps(position).encode()}

    def restore(self, state: Folder | None) -> None:
        """Go on from ``state``; without one begin, with the start's weights or the measure of the features."""
        if state is None and self.task.start is not None:
            self.model.load_state_dict(self.task.start)
            return
        if state is None:
            measures = [module for module in self.model.modules() if isinstance(module, Standardise)]
            found = ranks.share(self.train.statistics() if ranks.rank() == 0 and measures else None)
            for module in measures:
                module.fit(*(values.to(self.device) for values in found))
            return
        tensors = safetensors.torch.load(state["state.safetensors"])
        self.model.load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        )
        values: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".")
                values.setdefault(int(index), {})[key] = tensor
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": values})
        self.position = Position(**json.loads(state["position.json"]))
        if self.position.ranks != ranks.count():
            # The order of an epoch depends on the number of ranks: one that was begun by another number begins again.
            self.position = dataclasses.replace(self.position, ranks=ranks.count(), step=0)
            self.position.sums = NOTHING
        if ranks.rank() > 0:
            self.position.sums = NOTHING

    def trained(self, line: dict[str, Any]) -> Trained:
        info = {"recipe": self.recipe.model_dump(), **line}
        source = self.task.source_vocabulary and Vocabulary.from_json(self.task.source_vocabulary)
        return Trained(self.recipe.system, self.model, self.vocabulary, source, self.task.features, info)

    def note(self, sums: Tensor) -> None:
        """Tell the terminal how far the epoch is, now and then."""
        at = self.position
        if ranks.rank() == 0 and time.monotonic() - self.noted >= PROGRESS_SECONDS:
            self.noted = time.monotonic()
            self.desk.progress(epoch=at.epoch + 1, step=at.step, of=self.train.steps, **means(self.settings, sums))


def make_optimiser(model: torch.nn.Module, settings) -> torch.optim.Optimizer:
    """AdamW, without decay of biases; with weight_decay 0 it is Adam."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def factor(settings, at: Position, steps_per_epoch: int) -> float:
    """What the schedule makes of the learning rate at the next step, as a factor."""
    schedule = settings.schedule
    warm = min(1.0, (at.steps + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    if schedule.kind == "cosine":
        total = settings.epochs * steps_per_epoch
        after = max(0, at.steps - schedule.warmup_steps) / max(1, total - schedule.warmup_steps)
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, after)))
    return warm * at.rate


def decide(at: Position, settings, scores: dict[str, float]) -> bool:
    """Take note of a validation: is it the best so far? Also lowers a plateau's rate and ends a run that waits."""
    metric, schedule = settings.early_stopping.metric, settings.schedule
    value = value_of(scores, metric)
    improved = at.best is None or value > at.best
    if improved:
        at.best, at.best_epoch, at.waited = value, at.epoch, 0
    else:
        at.waited += 1
    if schedule.kind == "plateau":
        at.flat = 0 if scores["val_loss"] < at.lowest else at.flat + 1
        at.lowest = min(at.lowest, scores["val_loss"])
        if at.flat >= schedule.patience:
            at.rate, at.flat = at.rate * schedule.factor, 0
    patience = settings.early_stopping.patience
    at.finished = patience is not None and at.waited >= patience
    return improved


def value_of(line: dict[str, float], metric: str) -> float:
    """The early-stopping metric of an epoch, the higher the better."""
    return -line["val_loss"] if metric == "loss" else line[metric]


def best_of(lines: list[dict[str, float]], metric: str) -> dict[str, float]:
    """The epoch whose model is kept as the best, by ``decide``'s rule: the first with the highest value."""
    return max((line for line in lines if "val_loss" in line), key=lambda line: value_of(line, metric))


def mixed(*numbers: int) -> int:
    """A seed from several numbers, in which near ones have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
