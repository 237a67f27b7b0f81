"""The training loop of one rank, with or without Ray.

Nothing random is carried from step to step: the order of the data is a function of seed, epoch and rank, and dropout
of seed, step and rank. A run that is resumed from a checkpoint therefore equals the unbroken one, bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from pipelines.errors import UserError
from pipelines.training import distributed
from pipelines.training.data.feature_batches import Batch
from pipelines.training.data.feature_batches import Batches as FeatureBatches
from pipelines.training.data.task import Task
from pipelines.training.objectives import make_objective, means, step_arguments, tally
from pipelines.training.optimizer import PRECISIONS, Optimizer, check_precision, lr_factor, mean, swapped_weights
from pipelines.training.run.folder import RunSink
from pipelines.training.run.state import NO_SUMS, TALLY, Folder, TrainState, decide, mixed
from rnncond import systems
from rnncond.checkpoint import WEIGHTS, Trained, pack
from rnncond.contract import to_device
from rnncond.fast import kernels
from rnncond.losses import Sums, TeacherForcing
from rnncond.objectives import Diverged, Rewarded
from rnncond.search import SearchOptions, search
from rnncond.standardise import Standardise
from rnncond.text import Vocabulary

logger = logging.getLogger(__name__)

OBJECTIVE, WORDS = TALLY.index("objective"), TALLY.index("words")
COMPILE_FROM = 2000
"""Steps of a run for which attention is compiled, which takes seconds."""
PROGRESS_SECONDS = 1.0
"""Between two notes to the terminal."""


class Learner:
    """One rank's model, optimizer and training state. ``run`` trains to the end.

    Args:
        sink: is asked for the checkpoint to resume from, and given all that comes of the run.
        report: called with each epoch's metrics, on every rank, after they were handed in.

    Raises:
        UserError: the device cannot train in ``training.precision``.
    """

    def __init__(
        self,
        task: Task,
        sink: RunSink,
        device: torch.device | str = "cpu",
        report: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> None:
        self.task, self.sink, self.device, self.report = task, sink, torch.device(device), report
        self.recipe, self.settings = task.recipe, task.recipe.training
        check_precision(self.settings, self.device.type)
        self.vocabulary = Vocabulary.from_json(task.vocabulary)
        self.train, self.validation = task.batches(distributed.rank(), distributed.count())
        self.accumulate = distributed.accumulated(self.recipe)
        self.steps = math.ceil(self.train.steps / self.accumulate)
        # By the recipe and the data alone, so that a run that is resumed computes as it did.
        kernels.enable(self.steps * self.settings.epochs >= COMPILE_FROM)
        torch.manual_seed(self.recipe.seed)
        sizes = {"vocab_size": len(self.vocabulary)} | task.sizes()
        self.model = systems.build(self.recipe.system, self.recipe.model | sizes).to(self.device)
        self.optimizer = Optimizer(self.model, self.settings, self.device)
        self.train_state = TrainState(ranks=distributed.count())
        self.restore(distributed.share(sink.checkpoint() if distributed.rank() == 0 else None))
        reward = task.reward(self.device) if self.settings.objective.kind == "self_critical" else None
        self.objective = distributed.wrap(make_objective(self.recipe, self.model, reward), self.device)
        self.noted = 0.0
        self.processor_began = time.process_time()
        """Of this process, when it began, or was done with the epoch before."""

    def run(self) -> TrainState:
        """Train until the last epoch, or until early stopping.

        Raises:
            UserError: training has diverged, or what comes of it cannot be written.
        """
        while self.train_state.epoch < self.settings.epochs and not self.train_state.finished:
            try:
                self.train_epoch()
            except Diverged:
                self.refuse_divergence(math.nan, self.train_state.epoch + 1)
            self.end_epoch()
        if self.settings.average_last is not None:
            self.average_models()
        self.sink.flush()
        return self.train_state

    def train_epoch(self) -> None:
        at = self.train_state
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
        left = self.train.epoch(self.train_state.epoch + 1, self.train_state.step * count)
        while batches := list(islice(left, count)):
            yield batches

    def tensor(self, numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64, device=self.device)

    def update(self, batches: Sequence[Batch]) -> Tensor:
        """One step; returns its ``TALLY`` on this rank."""
        at = self.train_state
        torch.manual_seed(mixed(self.recipe.seed, at.steps, distributed.rank()))
        words = distributed.total(torch.tensor(float(sum(batch.words for batch in batches)), device=self.device))
        sums = self.tensor(NO_SUMS)
        for number, batch in enumerate(batches, 1):
            with nullcontext() if number == len(batches) else distributed.no_sync(self.objective):
                result = self.forward(batch)
                # DistributedDataParallel averages over ranks; with this the objective is divided by all words once.
                self.optimizer.backward(result.objective * distributed.count() / words)
            sums += tally(result, batch.words)
        at.skipped += not self.optimizer.step(self.rate(), at.steps)
        running = self.model.running_sums()
        if running is not None:
            self.model.update_running(distributed.total(running))
        return sums

    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.settings.learning_rate * lr_factor(self.settings, self.train_state, self.steps)

    def forward(self, batch: Batch) -> Sums | Rewarded:
        dtype = PRECISIONS[self.settings.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            result: Sums | Rewarded = self.objective(
                batch.source.to(self.device),
                to_device(batch.tokens, self.device),
                *step_arguments(self.settings, self.train_state.steps),
            )
        return result

    def end_epoch(self) -> None:
        """Validate, decide, and hand in what the epoch brought."""
        at = self.train_state
        at.epoch, at.step = at.epoch + 1, 0
        sums = distributed.total(self.tensor(at.sums))
        self.refuse_divergence(sums[OBJECTIVE].item(), at.epoch)
        line = {"epoch": at.epoch, "step": at.steps, **means(self.settings, sums), "learning_rate": self.rate()}
        if self.settings.precision == "float16":
            line["skipped_steps"] = at.skipped
        samples: list[dict[str, Any]] = []
        improved = False
        with swapped_weights(self.model, self.optimizer.average):
            if at.epoch % self.settings.validate_every == 0 or at.epoch == self.settings.epochs:
                scores, samples = self.validate()
                self.refuse_divergence(scores["val_loss"], at.epoch)
                line |= scores
                improved = decide(at, self.settings, scores)
            line |= {"seconds": at.seconds, "words_per_second": sums[WORDS].item() / max(at.seconds, 1e-9)}
            now = time.process_time()
            line["processor_seconds"] = now - self.processor_began
            self.processor_began = now
            last = pack(self.trained(line)) if distributed.rank() == 0 else {}
        at.sums, at.seconds = NO_SUMS, 0.0
        if distributed.rank() == 0:
            self.sink.epoch(line, samples)
            models = {"last": last, "best": last} if improved else {"last": last}
            self.sink.save_checkpoint(at.steps, self.state(), models, self.settings.average_last)
        logger.info("epoch %d of %d: %s", at.epoch, self.settings.epochs, line)
        self.report(line)

    def refuse_divergence(self, loss: float, epoch: int) -> None:
        """Raises UserError where the loss is no number any more, on all ranks, as all are given the same."""
        if not math.isfinite(loss):
            clip = "" if self.settings.clip_norm else " or set training.clip_norm"
            raise UserError(
                f"Training has diverged: the loss of epoch {epoch} is {loss}. Lower training.learning_rate (now "
                f"{self.settings.learning_rate:g}){clip}."
            )

    def average_models(self) -> None:
        """Hand in the mean of the last epochs' models, with its scores."""
        history = self.sink.history() if distributed.rank() == 0 else []
        models = [safetensors.torch.load(folder[WEIGHTS]) for folder in history]
        weights = distributed.share(mean(models) if models else None)
        with swapped_weights(self.model, weights):
            scores, _ = self.validate()
            self.refuse_divergence(scores["val_loss"], self.train_state.epoch)
            if distributed.rank() == 0:
                line = {"epoch": self.train_state.epoch, "averaged_epochs": len(models), **scores}
                self.sink.save_average(pack(self.trained(line)), line)

    def validate(self) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """The loss and scores of the validation split, the same on every rank, and some of the decoded sentences."""
        self.objective.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        hypotheses: dict[int, str] = {}
        with torch.no_grad():
            for batch in self.validation.epoch():
                forced = TeacherForcing(self.model)(batch.source.to(self.device), to_device(batch.tokens, self.device))
                sums += torch.stack([forced.loss.double(), forced.words.double()])
                hypotheses |= zip(batch.examples.tolist(), self.decode(batch), strict=False)
        loss, words = distributed.total(sums).tolist()
        for others in distributed.gather(hypotheses):
            hypotheses |= others
        scores: dict[str, float] = {}
        if distributed.rank() == 0:
            scores = {"val_loss": loss / words}
            scores |= {name: float(value) for name, value in self.task.scores(hypotheses).items()}
        count = self.task.count()
        chosen = np.linspace(0, count - 1, min(self.settings.samples, count), dtype=int).tolist()
        return distributed.share(scores), [self.task.sample(example, hypotheses[example]) for example in chosen]

    def decode(self, batch: Batch, **changes: Any) -> list[str]:
        """The best sentence for each example of a batch, as the recipe searches, but for ``changes`` of it."""
        memory = self.model.encode(batch.source.to(self.device))
        options = SearchOptions(**{**self.recipe.search, **changes})
        best = search(self.model.step, memory, self.model.init_state(memory), options).tokens[:, 0]
        return [self.vocabulary.decode(words) for words in best.tolist()]

    def checkpoint(self, sums: Tensor) -> None:
        """Save the state in the middle of an epoch. Rank 0 keeps the epoch's sums so far for all ranks."""
        at = self.train_state
        total = distributed.total(sums.clone()).tolist()
        self.refuse_divergence(total[OBJECTIVE], at.epoch + 1)
        if distributed.rank() == 0:
            self.sink.save_checkpoint(at.steps, self.state(**dict(zip(TALLY, total, strict=True))))

    def state(self, **changes: Any) -> Folder:
        """Weights, optimizer and training state as the files of a checkpoint."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= self.optimizer.tensors()
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        return {
            "state.safetensors": safetensors.torch.save(tensors),
            "position.json": dataclasses.replace(self.train_state, **changes).to_json(),
            "scaler.json": json.dumps(self.optimizer.scaler.state_dict()).encode(),
        }

    def restore(self, state: Folder | None) -> None:
        """Resume from ``state``; without one begin."""
        if state is None:
            self.begin()
            return
        tensors = safetensors.torch.load(state["state.safetensors"])
        self.model.load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        )
        self.optimizer.restore(tensors)
        self.optimizer.scaler.load_state_dict(json.loads(state["scaler.json"]))
        self.train_state = TrainState.from_json(state["position.json"])
        if self.train_state.ranks != distributed.count():
            # The order of an epoch depends on the number of ranks: one that was begun by another number begins again.
            self.train_state = dataclasses.replace(self.train_state, ranks=distributed.count(), step=0, seconds=0.0)
            self.train_state.sums = NO_SUMS
        if distributed.rank() > 0:
            self.train_state.sums = NO_SUMS
        logger.info("resumed after epoch %d and step %d of the next", self.train_state.epoch, self.train_state.step)

    def begin(self) -> None:
        """Take the weights of ``training.start_from``, or fit what standardises the features."""
        if self.task.start is not None:
            self.model.load_state_dict(self.task.start)
        else:
            measures = [module for module in self.model.modules() if isinstance(module, Standardise)]
            train, first = self.train, distributed.rank() == 0
            statistics = train.statistics() if isinstance(train, FeatureBatches) and measures and first else None
            statistics = distributed.share(statistics)
            for module in measures:
                module.fit(*(values.to(self.device) for values in statistics))
        self.optimizer.begin()

    def trained(self, line: dict[str, Any]) -> Trained:
        info = {"recipe": self.recipe.model_dump(), **line}
        source = Vocabulary.from_json(self.task.source_vocabulary) if self.task.source_vocabulary else None
        return Trained(self.recipe.system, self.model, self.vocabulary, source, self.task.features, info)

    def note(self, sums: Tensor) -> None:
        """Tell the terminal how far the epoch is, now and then."""
        at = self.train_state
        if distributed.rank() == 0 and time.monotonic() - self.noted >= PROGRESS_SECONDS:
            self.noted = time.monotonic()
            words = sums[WORDS].item() * distributed.count()  # of the others as many, nearly
            pace = {"learning_rate": self.rate(), "words_per_second": words / max(at.seconds, 1e-9)}
            place = {"epoch": at.epoch + 1, "step": at.step, "of": self.steps, "steps": at.steps}
            self.sink.progress(**place, **means(self.settings, sums), **pace)
