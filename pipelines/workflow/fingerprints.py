"""Fingerprints of what a pipeline's stages read and write: a stage whose fingerprints are unchanged is skipped."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from feature_store import Store, StoreError
from pipelines.errors import UserError
from pipelines.files.filesystems import locate, type_of, version_of, walk
from pipelines.files.globs import is_glob, matching, root_of
from pipelines.files.remote_folder import RemoteFolder, is_remote
from pipelines.tracking import registry
from pipelines.tracking.address import database_of, tracking_uri
from pipelines.tracking.client import client_at, reach

Fingerprint = str | list[Any] | dict[str, str] | None
"""Plain JSON; None where there is nothing."""
REMOTE = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs")
HASHED = 64 << 20
"""Bytes up to which a local file is known by its content; a larger one by its size and time."""


def fingerprint_of(name: str) -> Fingerprint:
    """The fingerprint of the file, folder, glob, store, model or registered model that is called ``name``.

    What object storage does not tell is never equal. The fingerprint of a store is that of its committed parts, the one
    of a run's or a model's folder that of its models, so that what else is written there later does not count.

    Raises:
        UserError: the MLflow of a registered model does not answer, or refuses.
    """
    if re.match("models:/[^/@]+@", name):
        return champion_of(name)
    try:
        filesystem, path = locate(name)
        if is_glob(filesystem, path):
            return matches_of(filesystem, path)
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            return content_of(filesystem, info)
        if info.type != fs.FileType.Directory:
            return None
        return store_of(name) or models_in(path, filesystem) or models_of_run(name) or folder_of(filesystem, path)
    except (OSError, ValueError, UserError, pa.ArrowException):
        return f"unknown, {uuid.uuid4().hex}" if re.match(f"({'|'.join(REMOTE)})://", name) else None


def champion_of(uri: str) -> Fingerprint:
    """Which version an alias is of at the moment; None where there is no such model or alias.

    Raises:
        UserError: MLflow does not answer, or refuses.
    """
    name, alias = uri.removeprefix("models:/").split("@")
    tracking = tracking_uri()
    database = database_of(tracking)
    if database and not database.is_file():
        return None
    client = client_at(tracking)

    def ask() -> Fingerprint:
        version = registry.version_at(client, name, alias)
        return [version.version, version.tags.get(registry.MODEL_ID)] if version else None

    return reach(tracking, ask)


def content_of(filesystem: fs.FileSystem, info: fs.FileInfo) -> str:
    if isinstance(filesystem, fs.LocalFileSystem) and info.size <= HASHED:
        return hashlib.sha256(Path(info.path).read_bytes()).hexdigest()
    return version_of(filesystem, info)


def store_of(name: str) -> Fingerprint:
    try:
        store = Store(name)
        datasets = store.datasets()
        sets: list[Any] = [
            [dataset.fingerprint, digest(sorted(part.path for part in snapshot.parts)), snapshot.failed]
            for dataset in datasets
            for snapshot in (dataset.snapshot(),)
        ]
        # Readers get another set when another becomes the current one.
        current = [store.current(kind) for kind in sorted({dataset.kind for dataset in datasets})]
        return sets + [["current", chosen.kind, chosen.fingerprint] for chosen in current if chosen]
    except StoreError:
        return None


def models_in(folder: str, filesystem: fs.FileSystem) -> Fingerprint:
    from rnncond.checkpoint import DESCRIPTION  # with torch, for which `rnncond status` must not wait

    if not isinstance(filesystem, fs.LocalFileSystem):
        return None
    ids: dict[str, str] = {}
    for name in ("", "best", "averaged"):
        file = Path(folder, name, DESCRIPTION)
        if file.is_file():
            content = file.read_bytes()
            try:
                ids[name] = json.loads(content)["model_id"]
            except (ValueError, LookupError, TypeError):  # what reads the model will say so
                ids[name] = f"damaged, {hashlib.sha256(content).hexdigest()}"
    return ids or None


def models_of_run(name: str) -> Fingerprint:
    """Of a run in object storage, by model."""
    contents = RemoteFolder.at(name).read() if is_remote(name) else None
    if contents is None:
        return None
    models = {model: contents.folders[model] for model in ("best", "averaged") if model in contents.folders}
    return {
        model: digest(sorted((file, stored.sha256) for file, stored in files.items()))
        for model, files in models.items()
    }


def folder_of(filesystem: fs.FileSystem, path: str) -> str:
    """The names, sizes and times of all files below ``path``."""
    return stream_digest((file.path, file.version, file.problem) for file in walk(filesystem, path))


def matches_of(filesystem: fs.FileSystem, pattern: str) -> str | None:
    """The names, sizes and times of the files that match a glob; None where nothing does."""
    if type_of(filesystem, root_of(pattern)) != fs.FileType.Directory:
        return None
    files = matching(filesystem, pattern)
    first = next(files, None)
    if first is None:
        return None
    return stream_digest((file.path, file.version, file.problem) for file in itertools.chain([first], files))


def stream_digest(entries: Iterable[Any]) -> str:
    """A digest of ``entries`` in whatever order they come, holding none of them: the sum of their SHA-256 (AdHash,
    Bellare and Micciancio 1997). It finds changes; it does not withstand somebody who wants to deceive."""
    count = total = 0
    for entry in entries:
        count += 1
        total += int.from_bytes(hashlib.sha256(json.dumps(entry).encode()).digest())
    return f"{count}-{total % 2**256:064x}"


def digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
