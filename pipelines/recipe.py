"""Recipes: YAML validated by typed models, so that a misspelt key trains nothing instead of the wrong thing.

A recipe comes from a file or, by name, from ``pipelines/recipes``; ``key.path=value`` overrides it. All mistakes are
told in one message: where, what was found, what is allowed, and the nearest spelling. The resolved recipe, every
default written out, is saved with the run and is a recipe itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import typing
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from pipelines.console import UserError
from rnncond import systems
from rnncond.search import SearchOptions
from rnncond.text import Level, Punctuation

FILLED = frozenset({"vocab_size", "feature_size"})
"""Fields of a system's Config that the data determine; a recipe does not have them."""
OF_CAPTIONING = frozenset(
    {"nbest", "coverage_beta", "blocked", "samples", "temperature", "top_k", "top_p", "seed", "attention"}
)
"""Fields of SearchOptions that validation has no use for."""


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


class Data(Section):
    """Pictures and their captions."""

    store: str
    """The feature store."""
    captions: str
    """captions.jsonl, COCO JSON, Karpathy's JSON or Flickr's token file."""
    output: Literal["pooled", "grid"]
    """Which of the features the system is given."""
    fingerprint: str | None = None
    """Which set of the store; may be left out where the store has one."""
    train: Split = "train"
    validation: Split = "val"
    validation_images: Count | None = None
    """Validate on the first so many images only."""
    memory_gb: NotNegative = 2.0
    """Features that need no more than this, per worker, are kept in memory; others stream at every epoch."""


class Text(Section):
    """The vocabulary, trained on the captions of the training split."""

    level: Level = "word"
    size: Count | None = None
    """At most so many entries; null: all words, or 10,000 subwords."""
    min_count: Count = 1
    """Words that are rarer become UNK."""
    lowercase: bool = True
    punctuation: Punctuation = "split"
    """``split``: marks are words; ``drop``: they are left out; ``keep``: they stay on their words."""
    max_length: Count = 20
    """Longer captions are cut to so many tokens in training."""


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


class Training(Section):
    epochs: Count
    images_per_batch: Count = 64
    """Of each worker."""
    captions_per_image: Count = 5
    """Captions of one image that share a batch; an image with more comes again in the same epoch."""
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
    """Validation images whose captions are kept at every validation."""
    schedule: Schedule = Schedule()
    early_stopping: EarlyStopping = EarlyStopping()


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


class Recipe(Section):
    system: str
    seed: Whole = 1
    data: Data
    text: Text = Text()
    model: Any = {}
    training: Training
    search: Any = {}
    cluster: Cluster = Cluster()
    tracking: Tracking = Tracking()
    out: str | None = None
    """The run's folder; null: runs/NAME of the recipe."""

    @field_validator("system")
    @classmethod
    def known(cls, system: str) -> str:
        systems.find(system)
        return system

    @model_validator(mode="after")
    def system_takes_output(self) -> Recipe:
        takes = systems.find(self.system).Model.takes
        if self.data.output not in takes:
            raise ValueError(f"data.output is {self.data.output!r}, but {self.system} takes {' or '.join(takes)}")
        return self

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)


def section_of(config: type, filled: frozenset[str] = frozenset()) -> type[Section]:
    """The section of a recipe that sets the fields of a dataclass, but for those ``filled`` by the pipeline."""
    hints = typing.get_type_hints(config)
    optional = {field.name for field in dataclasses.fields(config) if field.default is not dataclasses.MISSING}
    fields = {}
    for field in dataclasses.fields(config):
        if field.name in filled:
            continue
        hint = hints[field.name]
        kind = Annotated[hint, BeforeValidator(no_bool)] if hint in (int, float) else hint
        fields[field.name] = (kind, field.default if field.name in optional else ...)

    def check(section: Section) -> Section:
        config(**section.model_dump(), **dict.fromkeys(filled & hints.keys() - optional, 8))
        return section

    validators = {"check": model_validator(mode="after")(check)}
    return create_model(config.__name__, __base__=Section, __validators__=validators, **fields)


@cache
def recipe_type(system: str | None) -> type[Recipe]:
    """Recipe with the ``model`` section of a system, or with any such section where there is no such system."""
    search = section_of(SearchOptions, OF_CAPTIONING)
    sections: dict[str, Any] = {"search": (search, search())}
    try:
        model = section_of(systems.find(system or "").Config, FILLED)
        sections["model"] = (model, Field(default_factory=dict, validate_default=True))
    except (ValueError, TypeError, ImportError):
        pass
    return create_model("Recipe", __base__=Recipe, **sections)


def read_recipe(source: str, overrides: list[str] | tuple[str, ...] = (), out: str | None = None) -> Recipe:
    """The recipe in the file ``source``, or the one of that name that comes with the project, resolved.

    Args:
        overrides: ``key.path=value``; the value is read as YAML.
        out: the run's folder, before the recipe's own.

    Raises:
        UserError: no such recipe, or anything wrong in it; all mistakes in one message.
    """
    values, where = load(source)
    problems = [problem for override in overrides if (problem := apply(values, override))]
    if out is not None:
        values["out"] = out
    system = values.get("system")
    kind = recipe_type(system if isinstance(system, str) else None)
    try:
        recipe = kind.model_validate(values)
    except ValidationError as error:
        problems += [describe(entry, kind) for entry in error.errors()]
    if problems:
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise UserError(f"{where} has {count}:\n" + "\n".join(f"  {problem}" for problem in problems))
    resolved = recipe.model_dump()
    resolved["data"] |= {key: absolute(resolved["data"][key]) for key in ("store", "captions")}
    resolved["out"] = recipe.out or f"runs/{Path(source).stem if is_file(source) else source}"
    return Recipe(**resolved)


def names() -> list[str]:
    """The recipes that come with the project."""
    folder = resources.files("pipelines") / "recipes"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load(source: str) -> tuple[dict, str]:
    """A recipe's values as its YAML has them, and what to call it in a message."""
    if is_file(source):
        where, text = source, read_text(source)
    elif source in names():
        where, text = source, (resources.files("pipelines") / "recipes" / f"{source}.yaml").read_text()
    else:
        raise UserError(
            f"There is no recipe {source!r}: neither a file nor one of {', '.join(names())}." + near(source, names())
        )
    try:
        values = yaml.load(text, UniqueKeys)
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{where} is not a recipe: expected sections such as `data:` and `training:`.")
    return values, f"The recipe {where}"


def is_file(source: str) -> bool:
    return Path(source).is_file()


def read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The recipe {path} cannot be read: {error}") from None


class UniqueKeys(yaml.SafeLoader):
    """YAML in which a key may stand once; plain YAML silently takes the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def apply(values: dict, override: str) -> str | None:
    """Set ``key.path=value`` in ``values``; what is wrong with it, if anything is."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        return f"{override!r}: expected key.path=value"
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    *sections, key = path.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            return f"{override!r}: {section} is a value, not a section"
    values[key] = value
    return None


def describe(error: dict, recipe: type[BaseModel]) -> str:
    """One of pydantic's errors in a line: path, what was found, what is allowed."""
    loc = [str(part) for part in error["loc"]]
    path, found, what = ".".join(loc), error["input"], error["msg"]
    if error["type"] == "extra_forbidden":
        keys = keys_of(recipe, loc[:-1])
        return f"{path}: no such key; there are {', '.join(keys)}.{near(loc[-1], keys)}"
    if error["type"] == "missing":
        return f"{path}: missing; the recipe must say it, or add {path}=VALUE to the command"
    if error["type"] == "literal_error":
        allowed = error["ctx"]["expected"]
        options = [option.strip("' ") for option in allowed.replace(" or ", ", ").split(",")]
        return f"{path}: found {found!r}, expected {allowed}.{near(str(found), options)}"
    what = what.removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "value_error":
        return f"{path}: {what}" if path else what
    return f"{path}: found {found!r}, expected {what}"


def keys_of(model: type[BaseModel], loc: list[str]) -> list[str]:
    """The keys of the section at ``loc``."""
    for part in loc:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def near(word: str, options: list[str]) -> str:
    close = difflib.get_close_matches(word, options, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def absolute(path: str) -> str:
    """A local path from the root, so that the saved recipe works from anywhere; a URI as it is."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested sections as ``section.key``."""
    pairs = []
    for key, value in values.items():
        pairs += flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return pairs
