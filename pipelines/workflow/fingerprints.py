"""What a pipeline's stages read and write, as states: where they are equal, nothing has to be done again."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from feature_store import Store, StoreError
from pipelines.errors import UserError
from pipelines.files.filesystems import locate, version_of
from pipelines.tracking import registry
from pipelines.tracking.client import LOCAL_TRACKING, absolute, client_at, reach
from rnncond.checkpoint import DESCRIPTION

REMOTE = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")
HASHED = 64 << 20
"""Bytes up to which a local file is known by its content; a larger one by its size and time."""


def state_of(place: str) -> Any:
    """Of a file, a folder, a glob, a store, a model or a registered model: plain JSON; None where there is nothing.

    What object storage does not tell is never equal. A store is its committed parts, a run's folder or a model's its
    models, so that what else is written there later does not count.

    Raises:
        UserError: the MLflow of a registered model does not answer, or refuses.
    """
    if re.match("models:/[^/@]+@", place):
        return champion_of(place)
    try:
        if re.search(r"[*?\[]", place) and "://" not in place:
            return files_of(glob.glob(place, recursive=True))
        filesystem, path = locate(place)
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            return content_of(filesystem, info)
        if info.type != fs.FileType.Directory:
            return None
        return store_of(place) or models_in(place) or folder_of(filesystem, path)
    except (OSError, UserError, pa.ArrowException):
        return f"unknown, {uuid.uuid4().hex}" if re.match(f"({'|'.join(REMOTE)})://", place) else None


def champion_of(uri: str) -> Any:
    """Which version an alias is of at the moment; None where there is no such model or alias.

    Raises:
        UserError: MLflow does not answer, or refuses.
    """
    from mlflow.exceptions import MlflowException

    name, alias = uri.removeprefix("models:/").split("@")
    tracking = absolute(os.environ.get("MLFLOW_TRACKING_URI", LOCAL_TRACKING))
    if tracking.startswith("sqlite:///") and not Path(tracking.removeprefix("sqlite:///")).is_file():
        return None
    client = client_at(tracking)

    def ask() -> Any:
        try:
            version = client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None
        return [version.version, version.tags.get(registry.MODEL_ID)]

    return reach(tracking, ask)


def content_of(filesystem: fs.FileSystem, info: fs.FileInfo) -> str:
    if isinstance(filesystem, fs.LocalFileSystem) and info.size <= HASHED:
        return hashlib.sha256(Path(info.path).read_bytes()).hexdigest()
    return version_of(filesystem, info)


def store_of(place: str) -> Any:
    try:
        datasets = Store(place).datasets()
        return [
            [dataset.fingerprint, digest(sorted(part.path for part in snapshot.parts)), snapshot.failed]
            for dataset in datasets
            for snapshot in (dataset.snapshot(),)
        ]
    except StoreError:
        return None


def models_in(place: str) -> Any:
    found = {}
    for name in ("", "best", "averaged"):
        file = Path(place, name, DESCRIPTION)
        if file.is_file():
            content = file.read_bytes()
            try:
                found[name] = json.loads(content)["model_id"]
            except (ValueError, LookupError, TypeError):  # what reads the model will say so
                found[name] = f"damaged, {hashlib.sha256(content).hexdigest()}"
    return found or None


def folder_of(filesystem: fs.FileSystem, path: str) -> str:
    """Names, sizes and times of all files below."""
    found = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    return digest(sorted([info.path, version_of(filesystem, info)] for info in found if info.type == fs.FileType.File))


def files_of(paths: list[str]) -> str | None:
    return digest(sorted([path, os.stat(path).st_size, os.stat(path).st_mtime_ns] for path in paths)) if paths else None


def digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
