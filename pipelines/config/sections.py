"""The sections of a recipe as typed models: every key, its type and its default. ``training`` is a file of its own."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, model_validator

from pipelines.config.by_type import read_as
from pipelines.config.metrics import language
from pipelines.config.yaml_core import Written, scalar, scalars, structure
from rnncond.text import Level, Normalise, Punctuation


def number(value: Any) -> Any:
    """``value``, if it is no truth value; of text, also in quotes, the number of YAML 1.2 that it is.

    Raises:
        ValueError: it is no number. Pydantic would take more: 1_000, nan, " 3 ".
    """
    if isinstance(value, bool):
        raise ValueError("found true or false, expected a number")
    if not isinstance(value, str):
        return value
    inner = scalar(value)
    if not isinstance(inner, int | float) or isinstance(inner, bool):
        raise ValueError(f"found {value!r}, expected a number")
    return inner


def at_home(path: str) -> str:
    """``path`` with ~ spelled out."""
    return path if "://" in path else os.path.expanduser(path)


def local(folder: str) -> str:
    if "://" in folder:
        raise ValueError(f"found {folder}, expected a local folder; on a cluster one that outlives it, as /shared/NAME")
    return os.path.expanduser(folder)


def no_password(uri: str) -> str:
    """``uri``, if it has no password or token in it.

    Raises:
        ValueError: it has; the message shows the rest of it.
    """
    if not any(secret.search(uri) for secret in SECRETS):
        return uri
    raise ValueError(
        f"found {masked(uri)}, an address with a password in it, which would be kept with the run and shown. Leave it "
        "out of the address and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; "
        "a database is better spoken to by an MLflow server"
    )


SECRETS = (
    re.compile(r"://[^/@]*:(?!\d*(?:[/?#]|$))[^@]*@"),  # but for a port, what stands between : and @ is a password
    re.compile(r"^https?://[^/?#@]*@"),  # a token may stand where the user's name does
    re.compile(r"[?&;](?:password|passwd|pwd|token|secret|\w*_key)=", re.IGNORECASE),
)


def masked(uri: str) -> str:
    """``uri`` for a message: dots for a user and a password, and for all options."""
    address, mark, _ = uri.partition("?")
    return re.sub(r"://.*@", "://...@", address, flags=re.DOTALL) + (mark and "?...")


Language = Annotated[str, AfterValidator(language)]
Place = Annotated[str, AfterValidator(at_home), AfterValidator(no_password)]
"""A folder, or a uri of object storage."""
Count = Annotated[int, BeforeValidator(number), Field(ge=1)]
Whole = Annotated[int, BeforeValidator(number), Field(ge=0)]
Positive = Annotated[float, BeforeValidator(number), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(number), Field(ge=0, lt=1)]
Flag = Annotated[bool, Strict()]
"""true or false; pydantic would also take 1, yes and on."""
Split = Literal["train", "val", "test"]


class Section(BaseModel):
    """Every value that is still as its user wrote it is read by the type of its key before pydantic checks it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def read_by_type(cls, values: Any) -> Any:
        if isinstance(values, Written):
            values = structure(values)
        if not isinstance(values, dict):
            return scalars(values)
        hints = {name: field.annotation for name, field in cls.model_fields.items()}
        return {key: read_as(value, hints.get(key, Any)) for key, value in values.items()}


class PictureData(Section):
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
    """The split to train on."""
    train_images: Count | None = None
    """Train on the first so many images of it only, by their ids; null: all."""
    validation: Split = "val"
    """The split to validate on after an epoch."""
    validation_images: Count | None = None
    """Validate on the first so many images only."""
    target_language: Language | None = None
    """The language of the captions, as ``zh``, where it is one whose words no blanks part: scores of the validation
    count its words by sacrebleu's tokenizer of it."""
    memory_gb: NotNegative = 2.0
    """Features that need no more than this, per worker, are kept in memory; others stream at every epoch."""


class PairData(Section):
    """What a translator learns from: sentences and their translations. Files as in ``pipelines.inputs.corpus``."""

    source: str
    """A file of lines, or a table that has both sides."""
    target: str | None = None
    """The file of lines that are the translations; null where ``source`` has them."""
    validation_source: str
    """What ``source`` is, for the validation."""
    validation_target: str | None = None
    """What ``target`` is, for the validation."""
    columns: tuple[str, str] = ("source", "target")
    """Of a table: the names of the two sides."""
    store: str = "tokens"
    """Where the text is kept as tokens. Made when it is not there; runs with the same text share it. On a cluster of
    several machines it has to be a place that all see."""
    train_lines: Count | None = None
    """Train on the first so many pairs only; null: all."""
    validation_lines: Count | None = None
    """Validate on the first so many pairs only."""
    target_language: Language | None = None
    """The language of the translations, as ``ja``, by which BLEU's tokenizer is chosen; null: 13a, for languages whose
    words are parted by blanks."""
    memory_gb: NotNegative = 2.0
    """Tokens that need no more than this, per worker, are kept in memory; others stream at every epoch."""


class Text(Section):
    """The vocabulary, trained on the text of the training split."""

    level: Level = "word"
    """What an entry of the vocabulary is: a word, or a part of one by BPE, WordPiece or a unigram model."""
    size: Count | None = None
    """At most so many entries; null: all words, or 10,000 subwords."""
    min_count: Count = 1
    """Words that are rarer become UNK; pairs that are rarer are not joined by BPE and WordPiece; not for unigram."""
    lowercase: Flag = True
    """Read and write lower case only."""
    truecase: Flag = False
    """Give sentences of a model with ``lowercase`` the case that their words have in the training text."""
    normalise: Normalise = "none"
    """``moses``: quotes, dashes and other marks in one spelling, as Moses' script writes them. What is generated has it
    too; references keep their own, against which it is scored."""
    punctuation: Punctuation = "split"
    """``split``: marks are words; ``drop``: they are left out; ``keep``: they stay on their words."""

    @model_validator(mode="after")
    def case_is_to_be_given(self) -> Text:
        if self.truecase and not self.lowercase:
            raise ValueError("truecase is true, but lowercase is false, which keeps case. Set one of the two")
        return self

    @model_validator(mode="after")
    def something_is_counted(self) -> Text:
        if self.level == "unigram" and self.min_count > 1:
            raise ValueError(
                f"min_count is {self.min_count}, but level is unigram, which keeps the most likely pieces and counts "
                "none. Leave min_count at 1 and choose by size"
            )
        return self


class CaptionText(Text):
    max_length: Count = 20
    """Longer captions are cut to so many tokens in training."""


class PairText(Text):
    level: Level = "bpe"
    """What an entry of a vocabulary is: a word, or a part of one by BPE, WordPiece or a unigram model."""
    joint: Flag = False
    """One vocabulary of both languages; false: one of each, with the same settings."""
    max_length: Count = 50
    """Pairs with a side of more tokens are left out of training."""


class ClusterSection(Section):
    """What the run asks of Ray; null where the run takes what there is."""

    workers: Count = 1
    """Processes that train together, each on its own share of a batch."""
    min_workers: Count | None = None
    """Continue with as few while nodes are lost or taken; null: wait for room for all. Fewer workers take more batches
    to a step, so that it is of as many examples, or nearly; an epoch under way begins again."""
    cpus_per_worker: Positive | None = None
    """CPUs that Ray keeps for a worker."""
    gpus_per_worker: NotNegative | None = None
    """GPUs that Ray keeps for a worker; 0: train on CPUs."""
    threads: Count | None = None
    """Of torch in each worker; null: one for each whole CPU of its own."""
    max_failures: Whole = 3
    """Times that lost workers are replaced; training resumes from the last checkpoint."""

    @model_validator(mode="after")
    def fewer_at_least(self) -> ClusterSection:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers is {self.min_workers}, more than workers, {self.workers}")
        return self


class TrackingSection(Section):
    """MLflow."""

    uri: Annotated[str, AfterValidator(no_password)] | None = None
    """null: MLFLOW_TRACKING_URI, or else sqlite:///mlflow.db."""
    experiment: str = "rnncond"
    """The experiment that the run belongs to."""
    registered_model: Annotated[str, AfterValidator(model_name)] | None = None
    """Register the best model under this name."""
    backbone_weights: str | None = None
    """A captioner's: the file of its CNN's weights, which then travels with the logged model, so that it captions
    pictures wherever it is loaded."""
    allowed_uris: tuple[Annotated[str, AfterValidator(uri_prefix)], ...] = ()
    """Prefixes of addresses that the logged model, once it is served, opens for a request's ``uri``; none: it opens
    nothing, and a request carries its pictures."""
    system_metrics: Flag = True
    """CPU, memory, network and GPU of the driver's machine, every ten seconds."""


def uri_prefix(prefix: str) -> str:
    """``prefix``, if a served model may be allowed what begins with it: never a local file, never a whole host name's
    beginning. Raises ValueError."""
    if not re.fullmatch(r"(https?|s3|gs|gcs)://[^/?#@\s\\]+/[^?#\s\\]*", prefix):
        raise ValueError(
            f"found {prefix!r}, expected https://HOST/... or http://HOST/..., s3://BUCKET/... or gs://BUCKET/..., with "
            "the slash behind the host or bucket"
        )
    return prefix


def model_name(name: str) -> str:
    """``name``, if a registered model may have it. Raises ValueError."""
    if not re.fullmatch(r"[\w. -]+", name):
        raise ValueError(f"found {name!r}, expected a name of letters, digits, spaces, and any of _ - .")
    return name
