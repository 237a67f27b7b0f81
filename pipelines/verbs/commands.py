"""The verbs, and the parsed command behind each.

Only the module of the verb asked for is imported, so that ``rnncond --help`` answers at once.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer

from pipelines.config.spelling import near
from pipelines.errors import UserError

VERBS = {
    "demo": "the whole path on a small generated world, or on your photographs",
    "features": "CNN features of images into a store",
    "train": "train a captioner or a translator from a recipe",
    "tune": "search for the values of a recipe that train the best model",
    "caption": "caption images, or the features in a store",
    "translate": "translate a corpus of text",
    "evaluate": "score captions or translations against references",
    "promote": "a model into MLflow's registry, and its champion if it is the best",
    "run": "a pipeline of verbs from a file, each only where something has changed",
    "report": "a self-contained page of captions or translations, attention, curves and scores",
    "store": "info, verify, compact, vacuum",
    "submit": "run a verb as a job on a Ray cluster: start, status, logs, stop, list",
}
NO_STAGE = ("demo", "run", "submit")
"""Verbs that make no stage of a pipeline."""


def app_of(verb: str) -> typer.Typer:
    """The Typer application of one of ``VERBS``; its module is imported here."""
    return importlib.import_module(f"pipelines.verbs.{verb}").app


def stage_command(verb: str) -> Any:
    """The parsed command of a stage's verb, such as `train` or `store compact`.

    Raises:
        UserError: there is no such verb, or it makes no stage.
    """
    name, *rest = verb.split()
    verbs = [known for known in VERBS if known not in NO_STAGE]
    if name not in verbs:
        raise UserError(f"verb: there is no {name!r}; there are {', '.join(verbs)}.{near(name, verbs)}")
    command = typer.main.get_command(app_of(name))
    for word in rest or ([""] if hasattr(command, "commands") else []):
        below = getattr(command, "commands", {})
        if word not in below:
            raise UserError(
                f"verb: expected {name} with one of {', '.join(below) or 'nothing'} behind it, found {verb!r}"
            )
        command = below[word]
    return command
