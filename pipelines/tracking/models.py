"""Where a MODEL that the user names lies: ``locate`` gives the folder that ``rnncond.checkpoint.load`` takes."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import Fault, UserError
from pipelines.tracking.address import database_of, registry_uri, tracking_uri
from pipelines.tracking.client import first_line, import_mlflow, is_away
from rnncond.checkpoint import DESCRIPTION

if TYPE_CHECKING:
    from mlflow import MlflowClient

FORMS = (
    "Expected a run folder of `rnncond train`, a model folder (with model.json), runs:/RUN_ID, runs:/RUN_ID/PATH, "
    "models:/NAME@ALIAS or models:/NAME/VERSION."
)
BACKBONE = "backbone"
"""The folder, beside that of a model, which has the weights of its backbone."""


def locate(model: str | Path, tracking: str | None = None) -> Path:
    """The folder of MODEL; of a run folder, that of its best model. From MLflow it is fetched, and removed at exit.

    Args:
        tracking: uri of MLflow; by default MLFLOW_TRACKING_URI, or the database here.

    Raises:
        UserError: nothing there, no model in it, or MLflow does not know it or cannot be reached.
    """
    name = os.path.expanduser(model)
    if re.match("(runs|models):/", name):
        return in_folder(fetch(name, tracking), name)
    if "://" in name:
        raise UserError(f"{name} is neither a local folder nor known to MLflow. {FORMS}")
    if not Path(name).is_dir():
        raise UserError(f"There is no model {name}. {FORMS}")
    return in_folder(Path(name), name)


def weights_in(folder: str | Path) -> str | None:
    """The file of the backbone's weights that travels with a model folder out of MLflow, if there is one."""
    found = sorted(Path(folder).parent.glob(f"{BACKBONE}/*.safetensors"))
    return str(found[0]) if found else None


def in_folder(folder: Path, name: str) -> Path:
    """``folder`` itself, its ``best``, or the one model anywhere within it."""
    for candidate in (folder, folder / "best"):
        if (candidate / DESCRIPTION).is_file():
            return candidate
    within = sorted(file.parent for file in folder.glob(f"**/{DESCRIPTION}"))
    best = [found for found in within if found.name == "best"]
    if len(within) > 1 and len(best) == 1:
        within = best
    if len(within) == 1:
        return within[0]
    if within:
        names = ", ".join(str(found.relative_to(folder)) for found in within[:5])
        raise UserError(f"{name} has {len(within)} models ({names}). Name one of them.")
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise UserError(f"{name} has no model: no {DESCRIPTION} in it or in its folder best; it has {found}. {FORMS}")


def fetch(uri: str, tracking: str | None = None) -> Path:
    """The artifacts that MLflow has under ``uri``, in a temporary folder."""
    registry = registry_uri(tracking)
    tracking = tracking_uri(tracking)
    database = database_of(tracking)
    # MLflow would make an empty database here, and then not find the model in it.
    if database and not database.is_file():
        raise UserError(
            f"{uri} is to come from MLflow, but there is no database {tracking}. Run in the folder in which the model "
            "was trained, or set MLFLOW_TRACKING_URI."
        )
    mlflow = import_mlflow()
    target = tempfile.mkdtemp(prefix="rnncond-model-")
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    place = {"dst_path": target, "tracking_uri": tracking, "registry_uri": registry}
    run = re.fullmatch(r"runs:/([^/]+)/?", uri)
    try:
        if run:
            with contextlib.suppress(Exception):  # it may have its model elsewhere
                return Path(mlflow.artifacts.download_artifacts(f"runs:/{run[1]}/model", **place))
            return Path(mlflow.artifacts.download_artifacts(run_id=run[1], artifact_path="", **place))
        location = location_of(mlflow.MlflowClient(tracking, registry), uri)
        return Path(mlflow.artifacts.download_artifacts(location, **place))
    except Exception as error:  # MLflow passes on whatever its database, its server or its artifact store raises
        kind = Fault if is_away(error) else UserError
        raise kind(f"MLflow at {tracking} did not give {uri}: {first_line(error)}. {FORMS}") from None


def location_of(client: MlflowClient, uri: str) -> str:
    """Where the files of models:/... lie. MLflow's own way there does not ask the server that it was told to."""
    found = re.fullmatch(r"models:/([^/@]+)(?:@([^/]+)|/(\d+))(/.*)?", uri)
    if found:
        name, alias, number, below = found.groups()
        number = number or client.get_model_version_by_alias(name, alias).version
        return client.get_model_version_download_uri(name, str(number)) + (below or "")
    logged = re.fullmatch(r"models:/(m-[0-9a-f]+)(/.*)?", uri)
    return client.get_logged_model(logged[1]).artifact_location + (logged[2] or "") if logged else uri
