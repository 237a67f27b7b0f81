"""The sections of a recipe as typed models: every key, its type and its default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from rnncond import objectives
from rnncond.objectives import Baseline, DecayKind
from rnncond.text import Level, Normalise, Punctuation


def no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("found true or false, expected a number")
    return value


Count = Annotated[int, BeforeValidator(no_bool), Field(ge=1)]
Whole = Annotated[int, BeforeValidator(no_bool), Field(ge=0)]
Positive = Annotated[float, BeforeValidator(no_bool), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, BeforeValidator(no_bool), Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(no_bool), Field(ge=0, lt=1)]
Split = Literal["train", "val", "test"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pictures(Section):
    """What a captioner learns from: pictures and their captions."""

    store: str
    """The feature store."""
    captions: str
    """captions.jsonl, COCO JSON, Karpathy's JSON or Flickr's token file."""
    output: Literal["pooled", "grid", "regions"]
    """Which of the features the system is given."""
    fingerprint: str | None = None
    """Which set of the store; may be left out where the store has one."""
    train: Split = "train"
    validation: Split = "val"
    validation_images: Count | None = None
    """Validate on the first so many images only."""
    memory_gb: NotNegative = 2.0
    """Features that need no more than this, per worker, are kept in memory; others stream at every epoch."""


class Pairs(Section):
    """What a translator learns from: sentences and their translations. Files as in ``pipelines.corpus``."""

    source: str
    """A file of lines, or a table that has both sides."""
    target: str | None = None
    """The file of lines that are the translations; null where ``source`` has them."""
    validation_source: str
    validation_target: str | None = None
    columns: tuple[str, str] = ("source", "target")
    """Of a table: the names of the two sides."""
    store: str = "tokens"
    """Where the text is kept as tokens. Made when it is not there; runs with the same text share it."""
    validation_lines: Count | None = None
    """Validate on the first so many pairs only."""
    memory_gb: NotNegative = 2.0
    """Tokens that need no more than this, per worker, are kept in memory; others stream at every epoch."""


class Text(Section):
    """The vocabulary, trained on the text of the training split."""

    level: Level = "word"
    size: Count | None = None
    """At most so many entries; null: all words, or 10,000 subwords."""
    min_count: Count = 1
    """Words that are rarer become UNK."""
    lowercase: bool = True
    normalise: Normalise = "none"
    """``moses``: quotes, dashes and other marks in one spelling, as Moses' script writes them."""
    punctuation: Punctuation = "split"
    """``split``: marks are words; ``drop``: they are left out; ``keep``: they stay on their words."""


class CaptionText(Text):
    max_length: Count = 20
    """Longer captions are cut to so many tokens in training."""


class PairText(Text):
    level: Level = "bpe"
    joint: bool = False
    """One vocabulary of both languages; false: one of each, with the same settings."""
    max_length: Count = 50
    """Pairs with a side of more tokens are left out of training."""


class Schedule(Section):
    """The learning rate over the run."""

    kind: Literal["constant", "cosine", "plateau"] = "constant"
    warmup_steps: Whole = 0
    """Rises linearly from nothing over so many steps."""
    patience: Whole = 1
    """``plateau``: validations without a lower loss before the rate is multiplied by ``factor``."""
    factor: Annotated[float, BeforeValidator(no_bool), Field(gt=0, lt=1)] = 0.5
    """``plateau`` only; ``cosine`` falls to nothing at the last epoch."""


class EarlyStopping(Section):
    """When to end before ``epochs``, and which epoch is the best."""

    metric: Literal["CIDEr", "BLEU-4", "loss"] = "CIDEr"
    patience: Count | None = None
    """Validations without a better value before training ends; null: never."""


class PairEarlyStopping(EarlyStopping):
    metric: Literal["BLEU", "chrF", "loss"] = "BLEU"


class CrossEntropy(Section):
    """The words of people."""

    kind: Literal["cross_entropy"] = "cross_entropy"


class Decay(Section):
    """The probability that a word of people is fed, over the training steps: ``rnncond.objectives.Decay``."""

    kind: DecayKind = "linear"
    k: Positive = 1.0
    c: Positive | None = None
    """``linear`` only: what a step takes off."""
    lowest: Share = 0.0

    @model_validator(mode="after")
    def possible(self) -> Decay:
        objectives.Decay(**self.model_dump())
        return self


class ScheduledSampling(Section):
    """The words of people, after the model's own words as often as not."""

    kind: Literal["scheduled_sampling"]
    decay: Decay


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
        objectives.check_samples(self.samples, self.baseline)
        return self


class PairSelfCritical(SelfCritical):
    """What the model's own translations are worth."""

    reward: Literal["GLEU", "BLEU"] = "GLEU"


OBJECTIVES = {"cross_entropy": CrossEntropy, "scheduled_sampling": ScheduledSampling, "self_critical": SelfCritical}
"""By kind; translation's have the same keys."""


def kind_of(objective: Any) -> Any:
    """By which a recipe's objective is told from the others; cross-entropy where it says nothing."""
    if isinstance(objective, dict):
        return objective.get("kind", "cross_entropy")
    return getattr(objective, "kind", None)


Objective = Annotated[
    Annotated[CrossEntropy, Tag("cross_entropy")]
    | Annotated[ScheduledSampling, Tag("scheduled_sampling")]
    | Annotated[SelfCritical, Tag("self_critical")],
    Discriminator(kind_of),
]
PairObjective = Annotated[
    Annotated[CrossEntropy, Tag("cross_entropy")]
    | Annotated[ScheduledSampling, Tag("scheduled_sampling")]
    | Annotated[PairSelfCritical, Tag("self_critical")],
    Discriminator(kind_of),
]


class Training(Section):
    epochs: Count
    objective: Objective = CrossEntropy()
    start_from: str | None = None
    """A trained model whose weights and vocabulary to begin with: MODEL as ``rnncond caption`` takes it."""
    learning_rate: Positive = 1e-3
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = 5.0
    """Gradients are scaled down to this norm."""
    label_smoothing: Share = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoint_steps: Count | None = None
    """Also checkpoint every so many steps within an epoch."""
    validate_every: Count = 1
    """Epochs between validations; the last epoch is always validated."""
    samples: Whole = 8
    """Validation examples whose sentences are kept at every validation."""
    schedule: Schedule = Schedule()
    early_stopping: EarlyStopping = EarlyStopping()

    @model_validator(mode="after")
    def objective_is_possible(self) -> Training:
        if self.objective.kind == "self_critical" and self.start_from is None:
            raise ValueError(
                "objective.kind is self_critical, but start_from names no model. Sentences of an untrained model are "
                "worth nothing, so there is nothing to learn from: train with cross_entropy first, and give that run"
            )
        if self.objective.kind == "self_critical" and self.label_smoothing and not self.objective.cross_entropy:
            raise ValueError(
                f"label_smoothing is {self.label_smoothing}, but self_critical has labels to smooth only with "
                "objective.cross_entropy above 0. Set one of the two"
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


class Cluster(Section):
    """What the run asks of Ray; null where the run takes what there is."""

    workers: Count = 1
    cpus_per_worker: Positive | None = None
    gpus_per_worker: NotNegative | None = None
    threads: Count | None = None
    """Of torch in each worker; null: one for each whole CPU of its own."""
    max_failures: Whole = 3
    """Times that lost workers are replaced; training goes on from the last checkpoint."""


class Tracking(Section):
    """MLflow."""

    uri: str | None = None
    """null: MLFLOW_TRACKING_URI, or else sqlite:///mlflow.db."""
    experiment: str = "rnncond"
    registered_model: str | None = None
    """Register the best model under this name."""
