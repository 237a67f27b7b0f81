"""A store and its sets: the way in."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from feature_store import term
from feature_store.current import CURRENT, Conflict, Current, change_current, current_path, read_current
from feature_store.errors import StoreError
from feature_store.files import Files, read_json
from feature_store.ledger import Heartbeat, Ledger, TermName
from feature_store.schema import canonical, differences, fingerprint, pack_schema, unpack_schema
from feature_store.snapshot import Snapshot
from feature_store.term import HEARTBEAT_SECONDS, Term, Work
from feature_store.writer import Handle

FORMAT = 1
"""The newest version of FORMAT.md that this code reads and the one that it writes."""

PATIENCE_SECONDS, POLL_SECONDS = 60.0, 0.2
"""For which a run that has ended waits for others' changes of the current set: longer than one counts that was given
up."""


class Store:
    """A folder of sets. Nothing is created until a writer begins.

    Args:
        root: a local path, a uri such as s3://bucket/prefix, or a path inside ``filesystem``.
        filesystem: pyarrow's or fsspec's, if the root does not tell.
    """

    def __init__(self, root: str | os.PathLike[str], filesystem: Any = None) -> None:
        self.files = Files.at(root, filesystem)

    def __repr__(self) -> str:
        return f"Store({self.files.shown!r})"

    def exists(self) -> bool:
        """Whether there is a store here.

        Raises:
            StoreError: there is one of a newer format.
        """
        content = self.files.read("store.json")
        if content is None:
            return False
        found = read_json(content, self.files.show("store.json")).get("format")
        if not isinstance(found, int) or found > FORMAT:
            raise StoreError(
                f"{self.files.shown} is a store of format {found}; this version reads formats up to {FORMAT}. "
                "Use the version of rnncond that wrote it, or a newer one."
            )
        return True

    def datasets(self) -> list[Dataset]:
        """The sets here, ordered by fingerprint; none if there is no store."""
        if not self.exists():
            return []
        found = (self._load(name) for name in self.files.names("sets"))
        return [dataset for dataset in found if dataset]

    def dataset(
        self,
        kind: str,
        recipe: Mapping[str, Any],
        schema: pa.Schema,
        id_column: str = "image_id",
        about: Mapping[str, str] | None = None,
    ) -> Dataset:
        """The set of ``recipe``, there already or to be made by its first writer.

        Args:
            about: of a new set, what is worth knowing beside what its rows depend on.

        Raises:
            StoreError: it is there with other columns or of another kind.
        """
        found = self._load(fingerprint(recipe)) if self.exists() else None
        asked = Dataset(self, kind, json.loads(canonical(recipe)), schema, id_column, dict(about or {}))
        if found is None:
            return asked
        wrong = differences(schema, found.schema)
        if (found.kind, found.id_column) != (kind, id_column):
            wrong.append(f"it is {found.kind} by {found.id_column}, not {kind} by {id_column}")
        if wrong:
            raise StoreError(f"{self.files.show(found.folder)} was made otherwise: {'; '.join(wrong)}")
        return found

    def open(self, fingerprint: str | None = None, kind: str | None = None) -> Dataset:
        """A set that is there: the one of ``fingerprint`` (its beginning is enough); without one, or by the name
        ``current``, the current set of ``kind``, or the only one.

        Raises:
            StoreError: none or several fit; it lists what is there.
        """
        if not self.exists():
            raise StoreError(f"there is no store at {self.files.shown}: {self._what_is_here()}")
        if fingerprint == CURRENT:
            fingerprint = None
        there = self.datasets()
        fitting = [
            dataset
            for dataset in there
            if dataset.fingerprint.startswith(fingerprint or "") and kind in (None, dataset.kind)
        ]
        if not fingerprint and len({dataset.kind for dataset in fitting}) == 1:
            current = self.current(fitting[0].kind)
            chosen = [dataset for dataset in fitting if current and dataset.fingerprint == current.fingerprint]
            if current and not chosen:
                raise StoreError(
                    f"{self.files.show(current_path(current.kind))} names the set {current.fingerprint}, which is not "
                    f"there; it has:\n{self._listed(fitting)}\n"
                    f"`rnncond store use {self.files.shown} SET` names another."
                )
            fitting = chosen or fitting
        if len(fitting) == 1:
            return fitting[0]
        asked = " ".join(["set", *([f"of kind {kind}"] if kind else []), *([fingerprint] if fingerprint else [])])
        choices = self._listed(fitting or there)
        if fitting:
            raise StoreError(
                f"{self.files.shown} has {len(fitting)} sets; say which one, by its fingerprint, or name the one that "
                f"readers get, with `rnncond store use {self.files.shown} SET`:\n{choices}"
            )
        raise StoreError(f"{self.files.shown} has no {asked}; it has" + (f":\n{choices}" if there else " no sets."))

    def current(self, kind: str) -> Current | None:
        """Which set of ``kind`` readers get that name none; None where nobody has said.

        Raises:
            StoreError: the file that says it is damaged.
        """
        return read_current(self.files, kind)

    def use(self, dataset: Dataset, pinned: bool = True) -> Current | None:
        """Make ``dataset`` the current set of its kind, at one moment for all readers. Returns the one before.

        Args:
            pinned: until somebody says otherwise; if not, until a run completes another set of the kind.

        Raises:
            Conflict: another process does so at the same moment, or has done so meanwhile.
        """
        content, before = self.files.read(current_path(dataset.kind)), None
        with suppress(StoreError):  # a damaged one is written anew
            before = self.current(dataset.kind)
        completed = dataset.fingerprint if not pinned else before.completed if before else ""
        new = Current(dataset.kind, dataset.fingerprint, pinned, completed)
        change_current(self.files, new, content)
        return before

    def completed(self, dataset: Dataset) -> Current:
        """Note that a run has done all of its inputs in ``dataset``: it is the current set from now on, unless another
        is pinned. Returns the one that is current.

        Raises:
            Conflict: others change it all the time.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            content = self.files.read(current_path(dataset.kind))
            current = self.current(dataset.kind)
            pinned = current is not None and current.pinned
            kept = current.fingerprint if current is not None and pinned else dataset.fingerprint
            if current == Current(dataset.kind, kept, pinned, dataset.fingerprint):
                return current
            with suppress(Conflict) if time.monotonic() < until else nullcontext():
                new = Current(dataset.kind, kept, pinned, dataset.fingerprint)
                change_current(self.files, new, content)
                return new
            time.sleep(POLL_SECONDS)

    def _listed(self, datasets: list[Dataset]) -> str:
        current = {kind: self.current(kind) for kind in {dataset.kind for dataset in datasets}}
        lines = []
        for dataset in datasets:
            of_kind = current[dataset.kind]
            chosen = of_kind is not None and of_kind.fingerprint == dataset.fingerprint
            lines.append(f"  {dataset.describe()}{' (current)' if chosen else ''}")
        return "\n".join(lines)

    def create(self) -> None:
        """Make the store, if it is not there.

        Raises:
            StoreError: the folder holds something else.
        """
        if self.exists():
            return
        # A disk's lost+found and hidden files are in folders that their owner calls empty.
        others = [name for name in self.files.names("") if not name.startswith(".") and name != "lost+found"]
        if others:
            raise StoreError(
                f"{self.files.shown} is not empty and no store (it holds {', '.join(others[:3])}"
                f"{', ...' if len(others) > 3 else ''}); give a new or an empty folder for the store."
            )
        self.files.write("store.json", json.dumps({"format": FORMAT}).encode())

    def _load(self, name: str) -> Dataset | None:
        path = f"sets/{name}/set.json"
        content = self.files.read(path)
        if content is None:
            return None
        values = read_json(content, self.files.show(path))
        schema, about = unpack_schema(values["schema"]), values.get("about", {})
        return Dataset(self, values["kind"], values["recipe"], schema, values["id_column"], about)

    def _what_is_here(self) -> str:
        names = self.files.names("")
        if names:
            return f"the folder holds {', '.join(names[:3])}{', ...' if len(names) > 3 else ''} but no store.json"
        return "nothing is there"


@dataclass(frozen=True)
class Dataset:
    """A set: rows of one schema made by one recipe."""

    store: Store
    kind: str
    recipe: dict[str, Any]
    schema: pa.Schema
    id_column: str
    about: dict[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.recipe)

    @property
    def folder(self) -> str:
        """Relative to the store's root."""
        return f"sets/{self.fingerprint}"

    @property
    def files(self) -> Files:
        return self.store.files

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.files, f"{self.folder}/ledger")

    @property
    def draft(self) -> Handle:
        """A handle that is complete but for its term."""
        return Handle(self.files, self.folder, TermName(0, ""), self.schema, self.id_column)

    def describe(self) -> str:
        ingredients = ", ".join(f"{key} {value}" for key, value in self.recipe.items() if isinstance(value, str | int))
        return f"{self.fingerprint}  {self.kind}: {ingredients}"

    def snapshot(self) -> Snapshot:
        """What is committed now; nothing if no writer has begun."""
        _, parts = self.ledger.read()
        live = sorted((part for part in parts if not part.replaced), key=lambda part: (part.first_id, part.name))
        return Snapshot(self.files, self.folder, self.schema, self.id_column, live)

    def begin(self, takeover: bool = False, heartbeat: float = HEARTBEAT_SECONDS) -> Term[Handle]:
        """Become the set's only writer, and sweep what dead writers left.

        Args:
            takeover: do not ask whether another lives; its later commits raise and are never seen.
            heartbeat: seconds between signs of life.

        Raises:
            StoreError: another writer lives.
        """
        self.store.create()
        path = f"{self.folder}/set.json"
        if not self.files.exists(path):
            self.files.write(path, self._to_json())
        return term.begin(self.draft, takeover, heartbeat, term.carry_over_parts)

    def writer(self) -> Heartbeat | None:
        """The last sign of life of the newest writer; None if it ended in order. It may be dead."""
        terms = self.ledger.terms()
        return term.heartbeat_of(self.ledger, terms[-1]) if terms else None

    def work(self) -> Work | None:
        """What the newest writer told of its work; None if it told nothing."""
        terms = self.ledger.terms()
        return term.work_of(self.ledger, terms[-1]) if terms else None

    def left(self, snapshot: Snapshot | None = None) -> int | None:
        """Inputs that the newest writer has left to do, or left when it ended, beside what the snapshot has, by default
        all that is committed now; None if it never told how many there are."""
        work = self.work()
        if work is None:
            return None
        parts = (snapshot or self.snapshot()).parts
        own = (part.rows + part.failures for part in parts if part.term == work.term and not part.replaces)
        return max(work.to_do - sum(own), 0)

    def _to_json(self) -> bytes:
        values = {
            "kind": self.kind,
            "recipe": self.recipe,
            "id_column": self.id_column,
            "columns": {column.name: str(column.type) for column in self.schema},
            "schema": pack_schema(self.schema),
        } | ({"about": self.about} if self.about else {})
        return json.dumps(values, indent=1, ensure_ascii=False).encode()
