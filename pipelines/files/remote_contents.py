"""What a remote folder holds, as its folder.json says it: see ``remote_folder``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipelines.errors import UserError
from pipelines.files.atomic import write_whole

FORMAT = 1
"""Of folder.json."""
TEXTS = ("*.json", "*.jsonl", "*.yaml")
"""Names of files that are kept as texts."""


@dataclass(frozen=True)
class StoredFile:
    """Where a larger file is: ``path`` below the folder, its size, and the SHA-256 of its content."""

    path: str
    bytes: int
    sha256: str


StoredFiles = dict[str, StoredFile]
"""The files of one folder within the folder, by name."""


@dataclass
class Contents:
    """What a folder holds: small text files by name, and folders of larger files by their paths."""

    texts: dict[str, str] = field(default_factory=dict)
    folders: dict[str, StoredFiles] = field(default_factory=dict)

    def to_json(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, content: bytes, shown: str) -> Contents:
        """
        Raises:
            UserError: it is damaged, or a newer version of rnncond wrote it.
        """
        try:
            values = json.loads(content)
            if values["format"] > FORMAT:
                raise UserError(f"{shown} has format {values['format']}; this version of rnncond reads up to {FORMAT}.")
            folders = {
                name: {file: StoredFile(**stored) for file, stored in files.items()}
                for name, files in values["folders"].items()
            }
            return cls(dict(values["texts"]), folders)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{shown} is damaged: {error!r}. Put back a copy of it, or remove the folder.") from None

    def write_texts(self, folder: Path) -> None:
        """Give a folder of this machine these texts, and no others."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in read_texts(folder).keys() - self.texts.keys():
            (folder / name).unlink()
        for name, text in self.texts.items():
            write_whole(folder / name, text)

    def data(self) -> set[str]:
        """The folders below ``data`` that hold its files."""
        stored = (file for files in self.folders.values() for file in files.values())
        return {file.path.rpartition("/")[0] for file in stored}


def read_texts(folder: Path) -> dict[str, str]:
    """The files of a folder of this machine that are kept as texts."""
    paths = sorted(path for pattern in TEXTS for path in folder.glob(pattern))
    return {path.name: path.read_text(encoding="utf-8") for path in paths}
