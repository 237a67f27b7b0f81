"""MLflow's model registry: versions of a name, of which one is the ``champion``.

A version's tags say which model it is (``rnncond.model_id``), what its scores were, and on what (``rnncond.held_out``),
which file of a CNN's weights travels with it (``rnncond.backbone``), if one does, and which addresses it opens when it
is served (``rnncond.allowed_uris``; a version without this tag was logged by 0.1.0, and opens all).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipelines.tracking.address import option_for
from pipelines.tracking.client import if_known, make_or_get

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
MODEL_ID, HELD_OUT, WEIGHTS = "rnncond.model_id", "rnncond.held_out", "rnncond.backbone"
ALLOWED_URIS = "rnncond.allowed_uris"
NO_URIS = "none"


def champion(client: MlflowClient, name: str) -> ModelVersion | None:
    """The present champion, if there is one."""
    return version_at(client, name, CHAMPION)


def version_at(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version of ``name`` that has the alias; None where there is no such name or alias."""
    return if_known(lambda: client.get_model_version_by_alias(name, alias))


def version_named(client: MlflowClient, name: str, model: str) -> ModelVersion | None:
    """The version of ``name`` that the user calls by its number or an alias, as models:/NAME/2; None where ``model`` is
    no version of that name."""
    found = re.fullmatch(r"models:/([^/@]+)(?:@([^/]+)|/(\d+))/?", model)
    if found is None or found[1] != name:
        return None
    alias, number = found[2], found[3]
    return version_at(client, name, alias) if alias else if_known(lambda: client.get_model_version(name, number))


def version_of(client: MlflowClient, name: str, tags: Mapping[str, str]) -> ModelVersion | None:
    """The newest version that has all of ``tags``."""
    known = client.search_model_versions(f"name = '{name}' and tags.`{MODEL_ID}` = '{tags[MODEL_ID]}'")
    same = [version for version in known if tags.items() <= version.tags.items()]
    return max(same, key=lambda version: int(version.version), default=None)


def register(client: MlflowClient, name: str, logged_id: str, tags: Mapping[str, str]) -> ModelVersion:
    """The version of ``name`` that is this model, there already or new; so is the name.

    Args:
        logged_id: of an MLflow model, as ``packaging.log_model`` gives it.
    """
    make_or_get(lambda: client.create_registered_model(name), lambda: client.get_registered_model(name))
    model = client.get_logged_model(logged_id)
    identity = {tag: model.tags[tag] for tag in (MODEL_ID, WEIGHTS, ALLOWED_URIS) if tag in model.tags}
    if known := version_of(client, name, identity):
        return known
    return client.create_model_version(
        name, model.artifact_location, model.source_run_id, {**model.tags, **tags}, model_id=logged_id
    )


def beats(tags: Mapping[str, str], present: Mapping[str, str], metric: str) -> bool | None:
    """Whether the scores in ``tags`` are better; None where the two cannot be compared."""
    comparable = tags.get(HELD_OUT) and tags.get(HELD_OUT) == present.get(HELD_OUT)
    if not comparable or metric not in tags or metric not in present:
        return None
    return float(tags[metric]) > float(present[metric])


def shown(tags: Mapping[str, str], metric: str) -> str:
    """A score for the eye; empty where there is none."""
    return f"{metric} {figure(tags[metric])}" if metric in tags else ""


def figure(value: str) -> str:
    """A score's number for the eye. Those of losses are kept negative."""
    return f"{abs(float(value)):.4g}"


def compared(tags: Mapping[str, str], present: Mapping[str, str], metric: str, version: str) -> str:
    """The scores of a version and of the champion, ``version``, for the eye."""
    return f"{shown(tags, metric)} against {figure(present[metric])} of version {version}"


def decoding(uri: str, translates: bool, has_weights: bool, tracking: str) -> str:
    """The command that decodes with a registered model.

    Args:
        has_weights: whether a captioner's CNN's weights travel with it.
        tracking: the address of the MLflow that has the model.
    """
    model = f"--model {shlex.quote(uri)}{option_for(tracking)}"
    if translates:
        return f"rnncond translate TEXT {model} --out output"
    weights = "" if has_weights else " --weights FILE"
    return f"rnncond caption IMAGES {model}{weights} --out output"


def set_champion(client: MlflowClient, version: ModelVersion) -> None:
    client.set_registered_model_alias(version.name, CHAMPION, version.version)
