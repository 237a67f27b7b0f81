"""The command that goes on with a set, put together from what the set says of itself."""

from __future__ import annotations

import json
import shlex
from typing import Any

from feature_store import Dataset
from pipelines.errors import Fault, UserError
from pipelines.evaluation.results import CAPTIONS, TRANSLATIONS
from pipelines.inference.decoder import unusual
from pipelines.tracking.models import locate
from rnncond.checkpoint import DESCRIPTION

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
    """What to know of the model in the command of a set: versions before 0.3 made sets that do not name theirs, and
    what is called so may be another model by now, which would make a set of its own."""
    if dataset.kind not in (CAPTIONS.name, TRANSLATIONS.name):
        return ""
    own = dataset.recipe.get("model")
    if "models" not in dataset.about:
        return f"MODEL is the one with the id {own}, which the set does not name."
    names = json.loads(dataset.about["models"])
    if len(names) > 1:
        return ""
    if "@" in names[0]:
        return f"That holds while {names[0]} is the model {own}: of another, the command makes a set of its own."
    now = id_of(names[0])
    if now == own:
        return ""
    found = "is not there any more" if now is None else f"is the model {now} by now"
    return f"But {names[0]} {found}, and the set is of {own}: say --model with that one, or a new set is made."


def id_of(model: str) -> str | None:
    """The id of the model by that name; None where there is none."""
    try:
        return str(json.loads((locate(model) / DESCRIPTION).read_bytes())["model_id"])
    except (UserError, Fault, OSError, ValueError, KeyError):
        return None


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
