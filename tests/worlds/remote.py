"""Runs in object storage."""

from __future__ import annotations

from pathlib import Path

from pipelines.files.remote_contents import read_texts
from pipelines.files.remote_folder import RemoteFolder


def put_run(folder: Path, uri: str) -> RemoteFolder:
    """Give object storage what a run's folder has: its texts, and its models."""
    remote = RemoteFolder.at(uri)
    writer = remote.begin()
    writer.contents.texts = read_texts(folder)
    for model in folder.iterdir():
        if model.is_dir():
            files = {path.name: path.read_bytes() for path in model.iterdir()}
            writer.contents.folders[model.name] = remote.send(model.name, files)
    writer.commit()
    writer.close()
    return remote
