"""The command that goes on with a set, put together from what the set says of itself."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict
from typing import Any, NamedTuple

from feature_store import Dataset
from pipelines.errors import Fault, UserError
from pipelines.evaluation.results import CAPTIONS, TRANSLATIONS
from pipelines.features.detectors import Regions
from pipelines.inference.decoder import option_of, unusual
from pipelines.tracking import registry
from pipelines.tracking.address import database_of, tracking_uri
from pipelines.tracking.client import client_at
from pipelines.tracking.models import locate
from rnncond.checkpoint import DESCRIPTION


class Again(NamedTuple):
    """The ``command`` that goes on with a set, and what to know of the model in it, empty where there is nothing."""

    command: str
    remark: str


def again(dataset: Dataset, directory: str, source: str) -> Again:
    """How to do with ``source`` what made the set ``dataset`` of the store ``directory``.

    Versions before 0.3 made sets that do not name their models, and what is called so may be another model by now, of
    which the command would make a set of its own.
    """
    recipe, about = dataset.recipe, dataset.about
    verbs = {kind.name: kind.verb for kind in (CAPTIONS, TRANSLATIONS)}
    words = ["rnncond", verbs.get(dataset.kind, dataset.kind), source]
    remark = ""
    if dataset.kind in verbs:
        own = recipe.get("model", "")
        models = json.loads(about["models"]) if "models" in about else []
        if not models:
            models, remark = ["MODEL"], f"MODEL is the one with the id {own}, which the set does not name."
        elif len(models) == 1:
            models[0], remark = present(models[0], own)
        words += ["--model", models[0], *(word for one in models[1:] for word in ("--ensemble", one))]
        words += ["--out", directory, *options_of(recipe)]
    else:
        words += ["--store", directory]
        words += ["--backbone", recipe["backbone"]] if "backbone" in recipe else []
        words += ["--weights", about["weights"]] if "weights" in about else []
        words += network_options(recipe)
    return Again(shlex.join(words), remark)


def present(model: str, own: str) -> tuple[str, str]:
    """What the model with the id ``own``, once called ``model``, is called now, and what is to be said of it.

    An alias of MLflow's registry moves on with each promotion, and then the version is named.
    """
    alias = re.fullmatch(r"models:/([^/@]+)@[^/]+", model)
    if alias is None:
        now = id_of(model)
    else:
        now, version = ids_of(alias[1], model, own)
        if now != own and version:
            return f"models:/{alias[1]}/{version}", ""
    if now == own:
        return model, ""
    found = "was not found from here" if now is None else f"is the model {now} by now"
    return model, f"But {model} {found}, and the set is of {own}: say --model with that one, or a new set is made."


def ids_of(name: str, alias: str, own: str) -> tuple[str | None, str | None]:
    """The id of the model that the alias names, and the number of the version that is the model ``own``; None where
    there is none, or no MLflow."""
    uri = tracking_uri()
    database = database_of(uri)
    if database and not database.is_file():  # MLflow would make it
        return None, None
    try:
        client = client_at(uri)
        now = registry.version_named(client, name, alias)
        version = registry.version_of(client, name, {registry.MODEL_ID: own})
    except Exception:  # whatever MLflow raises: this is for a hint
        return None, None
    return now.tags.get(registry.MODEL_ID) if now else None, version.version if version else None


def id_of(model: str) -> str | None:
    """The id of the model by that name; None where there is none."""
    try:
        return str(json.loads((locate(model) / DESCRIPTION).read_bytes())["model_id"])
    except (UserError, Fault, OSError, ValueError, KeyError):
        return None


def network_options(recipe: dict[str, Any]) -> list[str]:
    """What was asked of the network that made features, where it is not the default."""
    outputs = recipe.get("outputs", {})
    words = ["--outputs", *outputs] if len(outputs) == 1 and "regions" not in outputs else []
    words += ["--size", str(recipe["size"])] if "size" in recipe else []
    kept = recipe.get("regions", {})
    options = {"most": "--regions-max", "fewest": "--regions-min", "threshold": "--score-threshold"}
    for name, usual in asdict(Regions()).items():
        words += [options[name], str(kept[name])] if kept.get(name, usual) != usual else []
    return words


def options_of(recipe: dict[str, Any]) -> list[str]:
    """Options of the search that are not as they are by default, the precision, and what is done with long sources and
    with unknown words."""
    made_with = recipe.get("search", {"beam": 5})
    search = unusual(made_with)
    words = ["--attention"] if made_with.get("attention") else []
    search.pop("attention", None)
    search.pop("blocked", None)  # words, which no option of the command names
    search |= {"precision": recipe["precision"]} if "precision" in recipe else {}
    for name, value in search.items():
        words += [option_of(name), str(value)]
    if "max_source_length" in recipe:  # of translations
        words += ["--max-source-length", str(recipe["max_source_length"])]
        words += ["--too-long", recipe["too_long"]] if recipe.get("too_long", "cut") != "cut" else []
        words += ["--unk-replace"] if recipe.get("unk_replace") else []
    return words
