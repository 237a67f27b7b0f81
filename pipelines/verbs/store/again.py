"""The command that goes on with a set, put together from what the set says of itself."""

from __future__ import annotations

import json
import shlex
from typing import Any

from feature_store import Dataset
from pipelines.evaluation.results import CAPTIONS, TRANSLATIONS
from pipelines.inference.decoder import unusual

OPTIONS = {"coverage_beta": "coverage-penalty"}
"""Fields of SearchOptions that the command line calls otherwise."""


def command(dataset: Dataset, directory: str, source: str) -> str:
    """The command that does with ``source`` what made the set ``dataset`` of the store ``directory``; see also
    ``which_model``."""
    recipe, about = dataset.recipe, dataset.about
    verbs = {kind.name: kind.verb for kind in (CAPTIONS, TRANSLATIONS)}
    words = ["rnncond", verbs.get(dataset.kind, dataset.kind), source]
    if dataset.kind in verbs:
        models = json.loads(about["models"]) if "models" in about else ["MODEL"]
        words += ["--model", models[0], *(word for one in models[1:] for word in ("--ensemble", one))]
        words += ["--out", directory, *options_of(recipe)]
    else:
        words += ["--store", directory]
        words += ["--backbone", recipe["backbone"]] if "backbone" in recipe else []
        words += ["--weights", about["weights"]] if "weights" in about else []
    return shlex.join(words)


def which_model(dataset: Dataset) -> str:
    """What MODEL is in the command of a set that does not name its models, as versions before 0.3 made them."""
    if dataset.kind not in (CAPTIONS.name, TRANSLATIONS.name) or "models" in dataset.about:
        return ""
    return f"MODEL is the one with the id {dataset.recipe.get('model')}, which the set does not name."


def options_of(recipe: dict[str, Any]) -> list[str]:
    """Options of the search that are not as they are by default, and the precision."""
    made_with = recipe.get("search", {"beam": 5})
    search = unusual(made_with)
    words = ["--attention"] if made_with.get("attention") else []
    search.pop("attention", None)
    search.pop("blocked", None)  # words, which no option of the command names
    search |= {"precision": recipe["precision"]} if "precision" in recipe else {}
    for name, value in search.items():
        words += [f"--{OPTIONS.get(name, name).replace('_', '-')}", str(value)]
    return words
