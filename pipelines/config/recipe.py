"""Recipes: YAML validated by typed models, so that a misspelt key trains nothing instead of the wrong thing.

A recipe comes from a file or, by name, from ``pipelines/recipes``; ``key.path=value`` overrides it. All mistakes are
reported in one message: where, what was found, what is allowed, and the nearest spelling. The resolved recipe, every
default written out, is saved with the run and is a recipe itself.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from pipelines.config.choices import RECIPES, recipe_names
from pipelines.config.dotted import absolute, apply, read_yaml
from pipelines.config.messages import describe, in_one_message
from pipelines.config.sections import (
    CaptionText,
    ClusterSection,
    Flag,
    PairData,
    PairText,
    PictureData,
    Place,
    Section,
    Text,
    TrackingSection,
    Whole,
    number,
)
from pipelines.config.spelling import instead_of
from pipelines.config.training_sections import CaptionTraining, PairTraining, Training
from pipelines.config.tuning_sections import CaptionTune, PairTune, Tune
from pipelines.config.yaml_core import Written, dump_yaml, load_yaml, structure
from pipelines.errors import UserError
from rnncond import systems
from rnncond.search import SearchOptions

FILLED = frozenset({"vocab_size", "source_vocab_size", "feature_size"})
"""Fields of a system's Config that the data determine; a recipe does not have them."""
OF_DECODING = frozenset(
    {"nbest", "coverage_beta", "blocked", "samples", "temperature", "top_k", "top_p", "seed", "attention"}
)
"""Fields of SearchOptions that are asked of ``caption`` and ``translate``, not in a recipe."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranslationSearch(SearchOptions):
    """Sentences are longer than captions."""

    max_length: int = 100


class Recipe(Section):
    """What both halves have."""

    system: str
    """The architecture: a name of ``rnncond/systems``."""
    seed: Whole = 1
    """Of the first weights, of the order of the data and of dropout."""
    data: Any
    text: Text = Text()
    model: Any = Field(default_factory=dict)
    training: Training
    search: Any = Field(default_factory=dict)
    cluster: ClusterSection = ClusterSection()
    tracking: TrackingSection = TrackingSection()
    out: Place | None = None
    """The run's folder; null: runs/NAME of the recipe."""
    tune: Tune | None = Field(None, exclude=True)
    """For ``rnncond tune`` alone, which says in each trial's recipe what it came to."""

    @field_validator("system")
    @classmethod
    def known(cls, system: str) -> str:
        systems.find(system)
        return system

    def to_yaml(self) -> str:
        return dump_yaml(self.model_dump(mode="json"))


class CaptionRecipe(Recipe):
    data: PictureData
    text: CaptionText = CaptionText()
    training: CaptionTraining
    tune: CaptionTune | None = Field(None, exclude=True)

    @model_validator(mode="after")
    def system_takes_output(self) -> CaptionRecipe:
        takes = systems.find(self.system).Model.takes
        if self.data.output not in takes:
            raise ValueError(f"data.output is {self.data.output!r}, but {self.system} takes {' or '.join(takes)}")
        return self


class TranslationRecipe(Recipe):
    data: PairData
    text: PairText = PairText()
    training: PairTraining
    tune: PairTune | None = Field(None, exclude=True)

    @model_validator(mode="after")
    def shared_words_are_of_one_vocabulary(self) -> TranslationRecipe:
        if dict(self.model).get("share_embeddings") and not self.text.joint:
            raise ValueError("model.share_embeddings is true, which needs one vocabulary: text.joint=true")
        return self


def section_of(config: type, filled: frozenset[str] = frozenset()) -> type[Section]:
    """The section of a recipe that sets the fields of a dataclass, but for those ``filled`` by the pipeline."""
    hints = typing.get_type_hints(config)
    optional = {field.name for field in dataclasses.fields(config) if field.default is not dataclasses.MISSING}
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        if field.name in filled:
            continue
        hint = hints[field.name]
        fields[field.name] = (strictly(hint), field.default if field.name in optional else ...)

    def check(section: Section) -> Section:
        config(**section.model_dump(), **dict.fromkeys(filled & hints.keys() - optional, 8))
        return section

    validators: dict[str, Any] = {"check": model_validator(mode="after")(check)}
    section: type[Section] = create_model(config.__name__, __base__=Section, __validators__=validators, **fields)
    return section


def strictly(hint: Any) -> Any:
    """``hint`` with the numbers and truth values of YAML only, where pydantic would take more."""
    if hint in (int, float):
        return Annotated[hint, BeforeValidator(number)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.Union[tuple(strictly(part) for part in typing.get_args(hint))]  # noqa: UP007
    return Flag if hint is bool else hint


@cache
def recipe_type(system: str | None, text: bool = False) -> type[Recipe]:
    """The recipe of a system, with its ``model`` section; with any such section where there is no such system.

    Args:
        text: where there is no such system, the half is that of text, not of pictures.
    """
    sections: dict[str, Any] = {}
    base: type[Recipe] = TranslationRecipe if text else CaptionRecipe
    try:
        module = systems.find(system or "")
        model = section_of(module.Config, FILLED)
        sections["model"] = (model, Field(default_factory=dict, validate_default=True))
        base = TranslationRecipe if "tokens" in module.Model.takes else CaptionRecipe
    except (ValueError, TypeError, ImportError):
        pass
    search = section_of(TranslationSearch if base is TranslationRecipe else SearchOptions, OF_DECODING)
    sections["search"] = (search, search())
    return create_model("Recipe", __base__=base, **sections)


def read_recipe(source: str, overrides: list[str] | tuple[str, ...] = (), out: str | None = None) -> Recipe:
    """The recipe in the file ``source``, or the one of that name that comes with the project, resolved.

    Args:
        overrides: ``key.path=value``; the value is read by the type of its key, see ``pipelines.config.by_type``.
        out: the run's folder, before the recipe's own.

    Raises:
        UserError: no such recipe, or anything wrong in it; all mistakes in one message.
    """
    values, where, problems = overridden(source, overrides, out)
    return resolve(validate(values, where, problems), name_of(source))


def limited(recipe: Recipe, limit: int) -> list[str]:
    """The override by which a recipe trains on ``limit`` examples only."""
    return [f"data.{'train_lines' if isinstance(recipe, TranslationRecipe) else 'train_images'}={limit}"]


def overridden(
    source: str, overrides: list[str] | tuple[str, ...], out: str | None
) -> tuple[dict[str, Any], str, list[str]]:
    """A recipe's values after ``overrides``, what to call it, and what is wrong with the overrides."""
    values, where = load(source)
    problems = [problem for override in overrides if (problem := apply(values, override))]
    if out is not None:
        values["out"] = out
    return values, where, problems


def validate(values: dict[str, Any], where: str, problems: Sequence[str] = ()) -> Recipe:
    """The recipe that ``values`` are; ``problems`` are reported with its own.

    Raises:
        UserError: anything is wrong.
    """
    recipe, mistakes = checked(values, where)
    if recipe is None or problems:
        raise UserError(in_one_message(where, [*problems, *mistakes]))
    return recipe


def checked(values: dict[str, Any], where: str) -> tuple[Recipe | None, list[str]]:
    """The recipe that ``values`` are, or None and what is wrong, a line each.

    Raises:
        UserError: the values are of the other half.
    """
    system, data = values.get("system"), values.get("data")
    if isinstance(data, Written):
        data = structure(data)
    kind = recipe_type(system if isinstance(system, str) else None, isinstance(data, dict) and "source" in data)
    refuse_other_half(data, values.get("system", "the system"), kind, where)
    try:
        return kind.model_validate(values), []
    except ValidationError as error:
        return None, [describe(entry, kind) for entry in error.errors()]


def resolve(recipe: Recipe, name: str) -> Recipe:
    """With every default written out, local paths from the root, and a folder; without ``tune``."""
    resolved = recipe.model_dump(mode="json")
    resolved["data"] |= {key: absolute(path) for key, path in resolved["data"].items() if key in PATHS and path}
    start = resolved["training"]["start_from"]
    if start and not start.startswith(("runs:/", "models:/")):
        resolved["training"]["start_from"] = absolute(start)
    if resolved["tracking"]["backbone_weights"]:
        resolved["tracking"]["backbone_weights"] = absolute(resolved["tracking"]["backbone_weights"])
    resolved["out"] = recipe.out or f"runs/{name}"
    return (TranslationRecipe if isinstance(recipe, TranslationRecipe) else CaptionRecipe)(**resolved)


def name_of(source: str) -> str:
    return Path(source).stem if Path(source).is_file() else source


PATHS = ("store", "captions", "source", "target", "validation_source", "validation_target")
"""Keys of ``data`` that name files."""


def refuse_other_half(data: Any, system: str, kind: type[Recipe], where: str) -> None:
    """Text for a captioner, or pictures for a translator: one mistake, not one for every key."""
    if not isinstance(data, dict):
        return
    if issubclass(kind, TranslationRecipe) and data.keys() & {"captions", "output"}:
        raise UserError(
            f"{where} gives pictures (data.{min(data.keys() & {'captions', 'output'})}) to {system}, which translates "
            "text. Expected data.source, data.target, data.validation_source and data.validation_target; or another "
            f"system: {', '.join(takers(tokens=False))}."
        )
    if issubclass(kind, CaptionRecipe) and data.keys() & {"source", "target", "validation_source"}:
        raise UserError(
            f"{where} gives text (data.{min(data.keys() & {'source', 'target', 'validation_source'})}) to {system}, "
            "which describes pictures. Expected data.store, data.captions and data.output; or another system: "
            f"{', '.join(takers(tokens=True))}."
        )


def takers(tokens: bool) -> list[str]:
    """The systems that translate, or those that describe pictures."""
    return [name for name in systems.names() if ("tokens" in systems.find(name).Model.takes) == tokens]


def load(source: str) -> tuple[dict[str, Any], str]:
    """A recipe's values as its YAML has them, and what to call it in a message."""
    if Path(source).is_file():
        values = read_yaml(source)
    elif source in recipe_names():
        values = load_yaml((RECIPES / f"{source}.yaml").read_text("utf-8"), source)
    else:
        raise UserError(
            f"There is no recipe {source!r}, and no such file.{instead_of(source, recipe_names())} `rnncond recipes` "
            "says what each is for."
        )
    if not isinstance(values, dict):
        raise UserError(f"{source} is not a recipe: expected sections such as `data:` and `training:`.")
    return values, f"The recipe {source}"
