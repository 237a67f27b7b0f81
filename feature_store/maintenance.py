"""Keeping a set sound and quick to read: verify, drop, compact, vacuum."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.errors import StoreError, explained
from feature_store.ledger import Heartbeat, TermName
from feature_store.parts import Part
from feature_store.retry import is_passing, retried
from feature_store.schema import differences, failure_schema
from feature_store.snapshot import Snapshot
from feature_store.store import Dataset
from feature_store.term import existing_files, refuse_if_another_lives
from feature_store.writer import Handle, check_ascending

PART_BYTES = 128 << 20
"""What a part aims at: large enough for object storage, small enough to hold in memory."""

GRACE_SECONDS = 24 * 3600.0


@dataclass
class Verified:
    """What ``verify`` found.

    Attributes:
        damaged: names of the parts that ``drop`` should take out.
        failed_again: earlier failures that may have been overcome by a row of a damaged part, and stand again without
            it. At most so many: a part that cannot be read tells only between which ids its rows were.
    """

    parts: int = 0
    rows: int = 0
    failures: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    failed_again: int = 0


def verify(dataset: Dataset, progress: Callable[[Part], object] = lambda part: None) -> Verified:
    """Read every byte of a set and compare it with the ledger. Holds all ids in memory."""
    found = Verified()
    term, _ = dataset.ledger.read()
    if term:
        found.problems += unreadable_entries(dataset, term)
    snapshot = dataset.snapshot()
    sound: list[Part] = []
    damaged: list[Part] = []
    for part in snapshot.parts:
        problems = list(part_problems(snapshot, part))
        found.problems += [f"{part.name}: {problem}" for problem in problems]
        (damaged if problems else sound).append(part)
        progress(part)
    whole = Snapshot(dataset.files, dataset.folder, dataset.schema, dataset.id_column, sound)
    found.problems += repeated_ids(whole)
    found.damaged = [part.name for part in damaged]
    found.failed_again = sum(overcome_at_most(whole, part, damaged) for part in sound if part.failures)
    found.parts, found.rows, found.failures = len(snapshot.parts), snapshot.rows, whole.failed
    found.bytes = sum(part.bytes + part.failure_bytes for part in snapshot.parts)
    return found


def unreadable_entries(dataset: Dataset, term: TermName) -> list[str]:
    ledger = dataset.ledger
    names = [name for name in ledger.entry_names(term) if ledger.entry(term, name) is None]
    return [f"{ledger.path(term, name)} is no whole entry; its part counts as not committed" for name in names]


Expected = tuple[int, tuple[int, ...] | None, str | None, str | None]
"""Rows, row groups, first and last id of a file; None where the ledger has none."""


def part_problems(snapshot: Snapshot, part: Part) -> Iterator[str]:
    if part.rows:
        expected: Expected = (part.rows, part.row_groups, part.first_id, part.last_id)
        yield from problems_of_file(snapshot, part.path, part.bytes, part.sha256, snapshot.schema, expected)
    if part.failures:
        schema = failure_schema(snapshot.id_column)
        expected = (part.failures, None, None, None)
        yield from problems_of_file(
            snapshot, part.failure_path, part.failure_bytes, part.failure_sha256, schema, expected
        )


def problems_of_file(
    snapshot: Snapshot, path: str, size: int, sha256: str, schema: pa.Schema, expected: Expected
) -> list[str]:
    """``file_problems``, looked for again while storage is ill: a throttle is no damage, for which parts are dropped.

    Raises:
        StorageFault: it stays so.
    """
    with explained(f"Reading {snapshot.files.show(f'{snapshot.folder}/{path}')}"):
        return retried(lambda: list(file_problems(snapshot, path, size, sha256, schema, expected)))


def file_problems(
    snapshot: Snapshot, path: str, size: int, sha256: str, schema: pa.Schema, expected: Expected
) -> Iterator[str]:
    """What is wrong with a file."""
    files, full = snapshot.files, f"{snapshot.folder}/{path}"
    try:
        found_size = files.size(full)
        if found_size is None:
            yield f"{path} is missing"
        elif found_size != size:
            yield f"{path} has {found_size:,} bytes, the ledger says {size:,}"
        elif files.sha256(full) != sha256:
            yield f"{path} has changed since it was committed (checksum)"
        else:
            yield from content_problems(files.open(full), path, schema, snapshot.id_column, expected)
    except (StoreError, pa.ArrowInvalid, OSError) as error:
        if is_passing(error):  # tells nothing of the file
            raise
        yield f"{path} cannot be read: {error}"


def content_problems(
    source: pa.NativeFile, path: str, schema: pa.Schema, id_column: str, expected: Expected
) -> Iterator[str]:
    with source, pq.ParquetFile(source) as file:
        yield from (f"{path}: {line}" for line in differences(file.schema_arrow, schema))
        ids = file.read(columns=[id_column])[id_column]
        groups = tuple(file.metadata.row_group(index).num_rows for index in range(file.num_row_groups))
    try:
        check_ascending(ids)
    except StoreError as error:
        yield f"{path}: {error}"
    found = (len(ids), groups, ids[0].as_py(), ids[-1].as_py())
    names = ("rows", "row groups", "first id", "last id")
    for name, value, said in zip(names, found, expected, strict=True):
        if said is not None and value != said:
            yield f"{path}: {name} {value}, the ledger says {said}"


def repeated_ids(snapshot: Snapshot) -> list[str]:
    ids = snapshot.ids()
    counts = ids.value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if not len(repeated):
        return []
    places: dict[str, list[str]] = {}
    for part in snapshot.parts:
        tables = [snapshot.standing_failures[part.name][snapshot.id_column]] if part.failures else []
        for column in [*snapshot.iter_ids([part]), *tables]:
            for id_ in column.filter(pc.is_in(column, value_set=repeated)).to_pylist():
                places.setdefault(id_, []).append(part.name)
    return [f"id {id_!r} is there {len(names)} times: {', '.join(names)}" for id_, names in sorted(places.items())]


def overcome_at_most(snapshot: Snapshot, failed: Part, others: Iterable[Part]) -> int:
    """How many of the failures of ``failed`` that stand in ``snapshot`` may have a later row in ``others``."""
    ids = snapshot.standing_failures[failed.name][snapshot.id_column].to_pylist()
    bounds = [(part.first_id, part.last_id) for part in others if part.rows and part.term > failed.term]
    return sum(any(first <= id_ <= last for first, last in bounds) for id_ in ids)


def drop(dataset: Dataset, names: Iterable[str], takeover: bool = False) -> None:
    """Take parts out of a set, as if they had never been, so that running again computes their inputs again; those that
    had failed in an earlier term count as failed again. ``vacuum`` frees the parts' files."""
    names = sorted(names)
    with dataset.begin(takeover) as term:
        term.handle.commit(term.handle.part_name(names), None, replaces=names)


@dataclass
class Compacted:
    """Numbers of parts and their mean bytes, before and after."""

    parts_before: int
    parts_after: int
    bytes_before: int
    bytes_after: int


def compact(
    dataset: Dataset,
    target_bytes: int = PART_BYTES,
    takeover: bool = False,
    progress: Callable[[Part], object] = lambda part: None,
) -> Compacted:
    """Merge small parts, neighbours by id, into parts of about ``target_bytes``; failures overcome since are left out.

    Holds one new part in memory. Each is committed together with the end of those that it replaces, so it may be
    killed anywhere; readers that began before keep their files until ``vacuum``.
    """
    with dataset.begin(takeover) as term:
        before = dataset.snapshot()
        for group in groups_to_merge(before.parts, target_bytes):
            ids = [part.name for part in group]
            rows = pa.Table.from_batches(before.scan(parts=group), dataset.schema)
            failures = [before.standing_failures[part.name] for part in group if part.failures]
            part = term.handle.commit(
                term.handle.part_name(ids), rows, pa.concat_tables(failures) if failures else None, replaces=ids
            )
            progress(part)
        after = dataset.snapshot()
    return Compacted(len(before.parts), len(after.parts), size_of(before), size_of(after))


def groups_to_merge(parts: Iterable[Part], target_bytes: int) -> Iterator[list[Part]]:
    """Runs of parts, in order of id, that are each below half of the target and together about as large as it."""
    group: list[Part] = []
    size = 0
    for part in parts:
        if part.bytes + part.failure_bytes >= target_bytes / 2:
            continue
        group.append(part)
        size += part.bytes + part.failure_bytes
        if size >= target_bytes:
            yield group
            group, size = [], 0
    if len(group) > 1:
        yield group


def size_of(snapshot: Snapshot) -> int:
    return sum(part.bytes + part.failure_bytes for part in snapshot.parts)


@dataclass
class Vacuumed:
    """What was removed, or would be: paths relative to the set's folder, and the bytes of the files among them."""

    files: list[str]
    terms: list[str]
    bytes: int


def vacuum(dataset: Dataset, grace: float = GRACE_SECONDS, dry_run: bool = False, takeover: bool = False) -> Vacuumed:
    """Remove files that another part has replaced for longer than ``grace`` seconds, terms that ended longer ago, and
    whatever dead writers left."""
    cut = time.time() - grace
    if dry_run:
        if not takeover:
            refuse_if_another_lives(dataset.ledger)
        after = TermName.after(dataset.ledger.terms())
        return removable(replace(dataset.draft, term=after), cut)
    # Its base carries over what counts, so that earlier terms can go. What is rubbish is known only now: before,
    # another writer may have committed.
    with dataset.begin(takeover) as term:
        found = removable(term.handle, cut)
        for path in found.files:
            dataset.files.delete(f"{dataset.folder}/{path}")
        for path in found.terms:
            dataset.files.delete_folder(f"{dataset.folder}/{path}")
    swept = sorted({*found.files, *term.swept})
    return Vacuumed(swept, found.terms, found.bytes + sum(term.swept.values()))


def removable(handle: Handle, cut: float) -> Vacuumed:
    """What may go when ``handle``'s term is the one that counts."""
    sizes = existing_files(handle)
    _, parts = handle.ledger.read()
    kept = {path for part in parts if not part.replaced or part.replaced > cut for path in part.paths}
    files = sorted(set(sizes) - kept)
    earlier = [term for term in handle.ledger.terms() if term.number < handle.term.number]
    terms = [f"ledger/{term}" for term in earlier if ended_before(handle, term, cut)]
    return Vacuumed(files, terms, sum(sizes[path] for path in files))


def ended_before(handle: Handle, term: TermName, cut: float) -> bool:
    content = handle.files.read(handle.ledger.path(term, "alive.json"))
    last = Heartbeat.from_json(content) if content else None
    return last is None or last.time < cut
