"""Where a MODEL that the user names lies: ``locate`` gives the folder that ``rnncond.checkpoint.load`` takes."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pyarrow import fs

from feature_store.retry import retried
from feature_store.uris import split
from pipelines.errors import Fault, UserError
from pipelines.files import filesystems
from pipelines.files.remote_folder import RemoteFolder, below, folder_for_copy
from pipelines.files.storage import as_user_error, open_file
from pipelines.tracking.address import database_of, registry_uri, tracking_uri
from pipelines.tracking.client import first_line, import_mlflow, is_away
from rnncond.checkpoint import DESCRIPTION

if TYPE_CHECKING:
    from mlflow import MlflowClient

FORMS = (
    "Expected a run folder of `rnncond train` or a model folder (with model.json), here or in object storage, "
    "runs:/RUN_ID, runs:/RUN_ID/PATH, models:/NAME@ALIAS or models:/NAME/VERSION."
)
MODELS = ("best", "last", "averaged")
"""Of a run."""
BEST_RUN = "best_trial_run"
"""The tag of a search's run that has the id of its best trial's, which has the model."""
BACKBONE = "backbone"
"""The folder, beside that of a model, which has the weights of its backbone."""


def locate(model: str | Path, tracking: str | None = None) -> Path:
    """The folder of MODEL; of a run folder, that of its best model. From MLflow and object storage it is fetched,
    and removed at exit.

    Args:
        tracking: uri of MLflow; by default MLFLOW_TRACKING_URI, or the database here.

    Raises:
        UserError: nothing there, no model in it, or MLflow does not know it.
        Fault: MLflow or object storage does not answer.
    """
    name = os.path.expanduser(model)
    if re.match("(runs|models):/", name):
        return in_folder(fetch(name, tracking), name)
    if "://" in name:
        return copy_of(name)
    if Path(name).is_file():
        raise UserError(f"{name} is a file, and a model is a folder. {FORMS}")
    if not Path(name).is_dir():
        raise UserError(f"There is no model {name}. {FORMS}")
    return in_folder(Path(name), name)


def copy_of(uri: str) -> Path:
    """The model folder at a uri of object storage, or ``best`` below it, copied to a temporary folder. Of a run that
    was trained there, the model that it has now."""
    filesystem, path = filesystems.locate(uri)
    path = path.rstrip("/")
    for candidate in (path, f"{path}/best"):
        if filesystems.type_of(filesystem, f"{candidate}/{DESCRIPTION}") == fs.FileType.File:
            break
    else:
        if copy := copy_of_run(uri):
            return copy
        raise UserError(f"{uri} has no model: no {DESCRIPTION} in it or in its folder best. {FORMS}")
    target = Path(folder_for_copy(), os.path.basename(candidate))
    target.mkdir()
    try:
        for info in retried(lambda: filesystem.get_file_info(fs.FileSelector(candidate))):
            if info.type == fs.FileType.File:
                with open_file(filesystem, info.path) as file:
                    (target / info.base_name).write_bytes(file.read())
    except OSError as error:
        raise as_user_error(f"The model {uri} cannot be read: {error}", error, uri) from None
    return target


def copy_of_run(uri: str) -> Path | None:
    """A copy of the best model of the run at ``uri``, or of the model at ``uri`` of the run above it; None where no run
    is."""
    for folder, model in runs_of(uri):
        remote = RemoteFolder.at(folder)
        if (contents := remote.read()) is None:
            continue
        if model not in contents.folders:
            models = ", ".join(name for name in MODELS if name in contents.folders) or "none"
            raise UserError(f"The run {folder} has no model {model}: found {models}. It gets one at each epoch's end.")
        target = Path(folder_for_copy(), model)
        remote.fetch(model, target)
        contents.write_texts(target.parent)  # what is known of the run lies beside its model, as in a folder
        return target
    return None


def runs_of(uri: str) -> tuple[tuple[str, str], ...]:
    """The runs that a MODEL in object storage may be of, and as which of its models."""
    address, path, options = split(uri)
    run, _, name = path.rstrip("/").rpartition("/")
    return (uri, "best"), (below(f"{address}{options}", run), name)


def run_above(uri: str) -> str | None:
    """The run in object storage of a MODEL there, if it is of one."""
    return next((folder for folder, _ in runs_of(uri) if RemoteFolder.at(folder).read() is not None), None)


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
            "was trained, or say --tracking-uri URI, or set MLFLOW_TRACKING_URI."
        )
    mlflow = import_mlflow()
    place = {"dst_path": folder_for_copy(), "tracking_uri": tracking, "registry_uri": registry}
    try:
        client = mlflow.MlflowClient(tracking, registry)
        uri = of_best_trial(client, uri)
        *others, last = locations_of(client, uri)
        for location in others:
            with contextlib.suppress(Exception):  # the model is in the next one
                return Path(mlflow.artifacts.download_artifacts(location, **place))
        return Path(mlflow.artifacts.download_artifacts(last, **place))
    except Exception as error:  # MLflow passes on whatever its database, its server or its artifact store raises
        kind = Fault if is_away(error) else UserError
        raise kind(f"MLflow at {tracking} did not give {uri}: {first_line(error)}. {FORMS}") from None


def of_best_trial(client: MlflowClient, uri: str) -> str:
    """``uri``; that of its best trial where it is the run of a search, which has no model."""
    found = re.fullmatch(r"runs:/([^/]+)(/model)?/?", uri)
    if found is None:
        return uri
    best = client.get_run(found[1]).data.tags.get(BEST_RUN)
    return f"runs:/{best}{found[2] or ''}" if best else uri


def locations_of(client: MlflowClient, uri: str) -> list[str]:
    """Where the files of runs:/... or models:/... may lie, the likeliest first. MLflow's own way there does not ask the
    server that it was told to."""
    found = re.fullmatch(r"runs:/([^/]+)(?:/([^/']+)(/.*?)?)?/?", uri)
    if found:
        run, name, below = client.get_run(found[1]).info, found[2] or "model", found[3] or ""
        of_run = f"name = '{name}' AND source_run_id = '{run.run_id}'"
        at = [one.artifact_location for one in client.search_logged_models([run.experiment_id], of_run)]
        at.append(f"{run.artifact_uri}/{name}")
        return [place + below for place in at] + ([] if found[2] else [run.artifact_uri])
    found = re.fullmatch(r"models:/([^/@]+)(?:@([^/]+)|/(\d+))(/.*)?", uri)
    if found:
        name, alias, number, below = found.groups()
        number = number or client.get_model_version_by_alias(name, alias).version
        return [client.get_model_version_download_uri(name, str(number)) + (below or "")]
    logged = re.fullmatch(r"models:/(m-[0-9a-f]+)(/.*)?", uri)
    return [client.get_logged_model(logged[1]).artifact_location + (logged[2] or "") if logged else uri]
