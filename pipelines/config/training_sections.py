"""The ``training`` section of a recipe, and the sections in it: every key, its type and its default.

A section that has a ``kind`` has the keys of that kind only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from pipelines.config.metrics import CaptionMetric, PairMetric
from pipelines.config.sections import Count, NotNegative, Positive, Section, Share, Whole, number
from rnncond import objective_options
from rnncond.objective_options import Baseline, DecayKind


class WithWarmup(Section):
    warmup_steps: Whole = 0
    """The rate rises linearly from nothing over so many steps."""


class Constant(WithWarmup):
    """The same learning rate over the run."""

    kind: Literal["constant"] = "constant"


class Cosine(WithWarmup):
    """Half a cosine, to nothing at the last epoch (Loshchilov and Hutter 2017, equation 5)."""

    kind: Literal["cosine"]


class Plateau(WithWarmup):
    """Lower whenever the validation loss has ceased to fall."""

    kind: Literal["plateau"]
    patience: Count = 1
    """Validations without a lower loss before the rate is multiplied by ``factor``."""
    factor: Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)] = 0.5
    """What the rate is multiplied by."""


class GnmtDecay(WithWarmup):
    """Constant, then halved again and again (Wu et al. 2016, section 8.3: from step 1,200,000 on, every 200,000)."""

    kind: Literal["gnmt"]
    start_decay_steps: Whole
    """Steps before it is halved for the first time."""
    decay_every: Count
    """Steps from one halving to the next."""


class InverseSqrt(Section):
    """``learning_rate`` at the end of a linear warm-up, then falling with the square root of the steps (Vaswani et al.
    2017, equation 3)."""

    kind: Literal["inverse_sqrt"]
    warmup_steps: Count = 4000
    """Steps of the warm-up."""


SCHEDULES: dict[str, type[Section]] = {
    "constant": Constant, "cosine": Cosine, "plateau": Plateau, "gnmt": GnmtDecay, "inverse_sqrt": InverseSqrt,
}  # fmt: skip
"""By kind."""


class EarlyStopping(Section):
    """When to end before ``epochs``, and which epoch is the best."""

    metric: CaptionMetric = "CIDEr"
    """Of the validation; its best epoch gives the best model."""
    patience: Count | None = None
    """Validations without a better value before training ends; null: never."""


class PairEarlyStopping(EarlyStopping):
    metric: PairMetric = "BLEU"  # type: ignore[assignment]
    """Of the validation; its best epoch gives the best model."""


class CrossEntropy(Section):
    """The words of people."""

    kind: Literal["cross_entropy"] = "cross_entropy"


class Decay(Section):
    """The probability that a word of people is fed, over the training steps: ``rnncond.objective_options.Decay``."""

    kind: DecayKind = "linear"
    """How the probability falls: as a line, as k^step, or as k / (k + exp(step / k))."""
    k: Positive = 1.0
    """Where ``linear`` begins; the constant of the other two."""
    c: Positive | None = None
    """``linear`` only: what a step takes off."""
    lowest: Share = 0.0
    """What the probability never falls below."""

    @model_validator(mode="after")
    def possible(self) -> Decay:
        objective_options.Decay(**self.model_dump())
        return self


class ScheduledSampling(Section):
    """The words of people, after the model's own words as often as not."""

    kind: Literal["scheduled_sampling"]
    decay: Decay
    """How seldom the word of people becomes."""


class SelfCritical(Section):
    """What the model's own sentences are worth, beside all captions of the image."""

    kind: Literal["self_critical"]
    reward: Literal["CIDEr-D", "GLEU", "BLEU"] = "CIDEr-D"
    """Of tokens, EOS included."""
    samples: Count = 5
    """Sentences drawn for each example."""
    baseline: Baseline = "greedy"
    """What a sample is compared with: the greedy sentence, or the mean of the other samples."""
    cross_entropy: NotNegative = 0.0
    """Weight of the cross-entropy that is added."""

    @model_validator(mode="after")
    def possible(self) -> SelfCritical:
        objective_options.check_samples(self.samples, self.baseline)
        return self


class PairSelfCritical(SelfCritical):
    """What the model's own translations are worth."""

    reward: Literal["GLEU", "BLEU"] = "GLEU"
    """Of tokens, EOS included."""


OBJECTIVES: dict[str, type[Section]] = {
    "cross_entropy": CrossEntropy,
    "scheduled_sampling": ScheduledSampling,
    "self_critical": SelfCritical,
}
"""By kind; translation's have the same keys."""


def kind_or(default: str) -> Discriminator:
    """Distinguishes the sections of one kind from the others; ``default`` where there is no kind."""

    def kind_of(section: Any) -> Any:
        return section.get("kind", default) if isinstance(section, dict) else getattr(section, "kind", None)

    return Discriminator(kind_of)


Schedule = Annotated[
    Annotated[Constant, Tag("constant")]
    | Annotated[Cosine, Tag("cosine")]
    | Annotated[Plateau, Tag("plateau")]
    | Annotated[GnmtDecay, Tag("gnmt")]
    | Annotated[InverseSqrt, Tag("inverse_sqrt")],
    kind_or("constant"),
]
Objective = Annotated[
    Annotated[CrossEntropy, Tag("cross_entropy")]
    | Annotated[ScheduledSampling, Tag("scheduled_sampling")]
    | Annotated[SelfCritical, Tag("self_critical")],
    kind_or("cross_entropy"),
]
PairObjective = Annotated[
    Annotated[CrossEntropy, Tag("cross_entropy")]
    | Annotated[ScheduledSampling, Tag("scheduled_sampling")]
    | Annotated[PairSelfCritical, Tag("self_critical")],
    kind_or("cross_entropy"),
]


class Training(Section):
    epochs: Count
    """At most so many passes over the data."""
    objective: Objective = CrossEntropy()
    """What is learned from."""
    start_from: str | None = None
    """A trained model whose weights and vocabulary to begin with: MODEL as ``rnncond caption`` takes it."""
    learning_rate: Positive = 1e-3
    """Of Adam, or of AdamW with ``weight_decay``."""
    weight_decay: NotNegative = 0.0
    """Of AdamW."""
    clip_norm: Positive | None = 5.0
    """Gradients are scaled down to this norm."""
    label_smoothing: Share = 0.0
    """Probability that the loss spreads evenly over the vocabulary (Szegedy et al. 2016)."""
    word_dropout: Share = 0.0
    """Probability that a word which the model reads is UNK, of the sentence so far and of a source text; against
    learning little data by heart (Bowman et al. 2016, section 3.1)."""
    accumulate: Count = 1
    """Batches of each worker that make a step: so many times the batch, in the memory of one."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the products; weights stay float32. ``float16`` needs a GPU, and scales the loss."""
    ema: Annotated[float, BeforeValidator(number), Field(gt=0, lt=1)] | None = None
    """Validate and save the exponential moving average of the weights, with this decay; in the first steps it is less,
    (1 + steps) / (10 + steps)."""
    average_last: Annotated[int, BeforeValidator(number), Field(ge=2)] | None = None
    """Also give the mean of the models of so many last epochs, as OUT/averaged."""
    checkpoint_steps: Count | None = None
    """Also checkpoint every so many steps within an epoch."""
    validate_every: Count = 1
    """Epochs between validations; the last epoch is always validated."""
    samples: Whole = 8
    """Validation examples whose sentences are kept at every validation."""
    schedule: Schedule = Constant()
    """How the learning rate changes."""
    early_stopping: EarlyStopping = EarlyStopping()
    """When to end early, and which epoch is the best."""

    @model_validator(mode="after")
    def objective_is_possible(self) -> Training:
        if self.objective.kind == "self_critical" and self.start_from is None:
            raise ValueError(
                "objective.kind is self_critical, but start_from names no model. Sentences of an untrained model are "
                "worth nothing, so there is nothing to learn from: train with cross_entropy first, and give that run"
            )
        if self.objective.kind == "self_critical" and not self.objective.cross_entropy:
            uses = {"label_smoothing": "has labels to smooth", "word_dropout": "reads sentences of people"}
            for name, use in uses.items():
                if value := getattr(self, name):
                    raise ValueError(
                        f"{name} is {value}, but self_critical {use} only with objective.cross_entropy above 0. "
                        "Set one of the two"
                    )
        return self

    @model_validator(mode="after")
    def average_is_of_epochs(self) -> Training:
        if self.average_last is not None and self.average_last > self.epochs:
            raise ValueError(
                f"average_last is {self.average_last}, but there are only {self.epochs} epochs to average the models of"
            )
        return self


class CaptionTraining(Training):
    images_per_batch: Count = 64
    """Of each worker."""
    captions_per_image: Count = 5
    """Captions of one image that share a batch; an image with more comes again in the same epoch. Self-critical
    training takes all of them at once."""


class PairTraining(Training):
    tokens_per_batch: Count = 4000
    """Of each worker and of the longer side, padding and EOS included."""
    objective: PairObjective = CrossEntropy()
    early_stopping: PairEarlyStopping = PairEarlyStopping()
