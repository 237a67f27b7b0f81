"""``rnncond store certify``: a file that says whether a set has all that its source has, to be verified later.

The certificate is one JSON object. ``digest`` has hashes of all pairs of id and version (``multiset_hash``): where that
of the listing equals that of the set's rows and failures, each listed input is there once, and nothing else is.
``sha256`` is over everything else in the object as canonical JSON (sorted keys, no white space, UTF-8).
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from feature_store import Dataset, Snapshot, Store
from feature_store.ledger import READ_THREADS
from feature_store.maintenance import part_problems
from feature_store.prune import prune
from feature_store.schema import canonical
from feature_store.term import refuse_if_another_lives
from pipelines.console import WAITING, Outcome, Progress, plural, tell_result
from pipelines.errors import UserError
from pipelines.evaluation.results import TRANSLATIONS
from pipelines.files.atomic import write_whole
from pipelines.files.filesystems import folder_and_name
from pipelines.inputs.corpus import Corpus, corpus_in_words, with_version
from pipelines.inputs.corpus_formats import FIELDS
from pipelines.inputs.listing import Listing
from pipelines.verbs.store.again import again
from pipelines.verbs.store.census import Census, Comparison, own_hash

SCHEMA = 1
"""The newest version of certificates that this code reads and the one that it writes."""
MOST_PRUNED = 0.5
"""Share of a set's inputs above which ``--prune`` wants ``--anyway``: a wrong IMAGES must not empty a store."""


def certify(
    directory: str,
    source: str,
    fingerprint: str | None = None,
    *,
    to: str | None = None,
    check_bytes: bool = False,
    drop: bool = False,
    dry_run: bool = False,
    anyway: bool = False,
    takeover: bool = False,
    column: str | None = None,
) -> Outcome:
    """Compare a set with its source, IMAGES or of translations TEXT, and write what was found.

    Args:
        to: the certificate's file; in the store, as certificates/SET.json, if None.
        check_bytes: also read every file of the set and compare its checksum with the ledger's.
        drop: take rows and failures out whose inputs the source does not have; with ``dry_run`` only say which, and
            write nothing.
        anyway: drop them although they are more than half of the set.
        column: of a TEXT that is a table, the column of the sentences; None for ``source``.

    Raises:
        UserError: there is no such source, or too much would be dropped.
        StoreError: there is no such set, or a writer is at work in it.
    """
    WAITING.phase("listing what is to be there")
    dataset = Store(directory).open(fingerprint)
    listed = partial(inputs_of, dataset, directory, source, column)
    chunks = listed()
    if not takeover:
        refuse_if_another_lives(dataset.ledger)
    WAITING.phase("comparing")
    comparison, census = compared(dataset.snapshot(), chunks)
    dropped, others = 0, ""
    if drop and census.extra.count:
        refuse_emptying(dataset, census, source, anyway)
        ids = list(comparison.not_listed())
        if dry_run:
            tell_result("\n".join(f"would be dropped: {id_}" for id_ in ids[:100]))
        else:
            WAITING.phase("dropping rows")
            pruned = prune(dataset, ids, takeover)
            dropped = pruned.rows + pruned.failures
            others = in_other_sets(dataset, ids, directory, source, column)
            _, census = compared(dataset.snapshot(), listed())
    snapshot = dataset.snapshot()
    WAITING.phase("comparing checksums" if check_bytes else "writing the certificate")
    damaged = damaged_files(snapshot) if check_bytes else []
    content = content_of(dataset, snapshot, census, source, damaged if check_bytes else None)
    place = None if dry_run else write(dataset, content, to)
    summary: dict[str, Any] = {"store": directory, "set": dataset.fingerprint, "complete": content["complete"]}
    summary |= {"listed": census.listed, "rows": census.rows, "failed_inputs": census.failures}
    summary |= {"missing": census.missing.count, "stale": census.stale.count, "extra": census.extra.count}
    if drop:
        summary["would_be_dropped" if dry_run else "dropped"] = census.extra.count if dry_run else dropped
    if place:
        summary |= {"certificate": place, "sha256": content["sha256"]}
    problems = [f"{id_}: {KINDS[kind]}" for kind in KINDS for id_ in getattr(census, kind).examples]
    count = census.missing.count + census.stale.count + census.extra.count + len(damaged)
    hints = [hint for hint in (hint_of(dataset, census, directory, source, column), others) if hint]
    return Outcome(summary, count, [*damaged, *problems][:20], "\n".join(hints) or None, trouble="differ")


KINDS = {"missing": "missing, it has no row", "stale": "stale, changed since", "extra": "extra, not in the source"}
"""What is wrong with an input, by the key of the certificate that counts it."""


def pruning(directory: str, images: str, column: str | None, fingerprint: str) -> str:
    """The command that drops from a set what its source does not have."""
    words = ["rnncond", "store", "certify", directory, "--of", images, *(["--column", column] if column else [])]
    return shlex.join([*words, "--set", fingerprint, "--prune"])


def in_other_sets(dataset: Dataset, ids: list[str], directory: str, images: str, column: str | None) -> str:
    """How to drop ``ids`` from the store's other sets of the kind, each that has some."""
    lines = []
    for other in dataset.store.datasets():
        if other.kind == dataset.kind and other.fingerprint != dataset.fingerprint:
            count = pc.sum(pc.is_in(other.snapshot().ids(), value_set=pa.array(ids))).as_py()
            if count:
                command = pruning(directory, images, column, other.fingerprint)
                lines.append(f"{command}\n  drops {count:,} of them from that set, too")
    return "\n".join(lines)


def inputs_of(dataset: Dataset, directory: str, source: str, column: str | None) -> Iterator[pa.Table]:
    """The inputs that ``source`` has now, as the set's verb lists them; the first of them are listed already, so that a
    wrong source is told before the set is read.

    Raises:
        UserError: there is no such source, or the set is not of inputs with ids of their own.
    """
    if dataset.id_column == "image_id":
        if column is not None:
            raise UserError(f"--column is of translations, and the set {dataset.fingerprint} has {dataset.kind}.")
        return Listing(source).begin()
    if dataset.kind != TRANSLATIONS.name:
        raise UserError(
            f"The set {dataset.fingerprint} in {directory} has {dataset.kind}, and --of names pictures or text; only "
            "sets of `rnncond features`, `rnncond caption` and `rnncond translate` can be certified."
        )
    corpus = Corpus(source, columns=(column or FIELDS[0], FIELDS[1]), option="--column")
    if dataset.recipe["corpus"] != corpus_in_words(corpus):
        theirs, ours = (in_words(one) for one in (dataset.recipe["corpus"], corpus_in_words(corpus)))
        raise UserError(
            f"The set {dataset.fingerprint} in {directory} is of {theirs}, and {source} has {ours}. Sentences without "
            "ids are known by their lines in one file, and a changed file has a set of its own; with a column `id` a "
            "set can be compared with what the corpus has now."
        )
    chunks = map(with_version, corpus.chunks())
    return chain([next(chunks)], chunks)


def in_words(corpus: str) -> str:
    """A recipe's ``corpus``, for a message."""
    return "sentences with ids" if corpus == "by id" else f"sentences without ids ({corpus})"


def compared(snapshot: Snapshot, chunks: Iterator[pa.Table]) -> tuple[Comparison, Census]:
    comparison = Comparison(snapshot)
    with Progress("certify", "inputs listed", None) as progress:

        def counted():
            for chunk in chunks:
                yield chunk
                progress.advance(chunk.num_rows)

        return comparison, comparison.run(counted())


def refuse_emptying(dataset: Dataset, census: Census, images: str, anyway: bool) -> None:
    if not anyway and census.extra.count > MOST_PRUNED * (census.rows + census.failures):
        raise UserError(
            f"--prune would drop {census.extra.count:,} of the {census.rows + census.failures:,} inputs of the set "
            f"{dataset.fingerprint}, as {images} does not list them. Is it the whole source? If it is, say --anyway."
        )


def content_of(
    dataset: Dataset, snapshot: Snapshot, census: Census, images: str, damaged: list[str] | None
) -> dict[str, Any]:
    """The certificate."""
    paths = sorted(
        line
        for part in snapshot.parts
        for line in (
            *([f"{part.path} {part.sha256}"] if part.rows else []),
            *([f"{part.failure_path} {part.failure_sha256}"] if part.failures else []),
        )
    )
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: metadata.version(name) for name in ("rnncond", "pyarrow")}
        | {"python": platform.python_version()},
        "store": dataset.store.files.shown,
        "set": dataset.fingerprint,
        "kind": dataset.kind,
        "model": dataset.recipe.get("model"),
        "recipe": dataset.recipe,
        "of": images,
        "listed": census.listed,
        "unversioned": census.unversioned,
        "rows": census.rows,
        "failures": {"count": census.failures, "stages": census.stages},
        "digest": {
            "of": "pairs of id and version: LtHash16 over SHAKE128, and SHA-256 of the sum",
            "listing": census.listing,
            "rows_and_failures": census.content,
            "with_all_versions": census.own,
        },
        "missing": asdict(census.missing),
        "stale": asdict(census.stale),
        "extra": asdict(census.extra),
        "files": {
            "count": len(paths),
            "bytes": sum(part.bytes + part.failure_bytes for part in snapshot.parts),
            "sha256": hashlib.sha256("\n".join(paths).encode()).hexdigest(),
            "read": damaged is not None,
            "damaged": damaged or [],
        },
        "complete": census.complete and not damaged,
    }
    return content | {"sha256": digest_of(content)}


def digest_of(content: dict[str, Any]) -> str:
    """SHA-256 over all but ``sha256`` itself."""
    return hashlib.sha256(canonical({k: v for k, v in content.items() if k != "sha256"}).encode()).hexdigest()


def write(dataset: Dataset, content: dict[str, Any], to: str | None) -> str:
    """Put the certificate in place, whole; where it is."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    if to is None:
        path = f"certificates/{dataset.fingerprint}.json"
        dataset.files.write(path, text.encode())
        return dataset.files.show(path)
    try:
        write_whole(Path(to), text)
    except OSError as error:
        raise UserError(f"The certificate cannot be written to {to}: {error}. Say --to ANOTHER.") from None
    return to


def damaged_files(snapshot: Snapshot) -> list[str]:
    """What is wrong with the files of a set, as `rnncond store verify` finds it."""
    with ThreadPoolExecutor(READ_THREADS) as pool:
        found = pool.map(lambda part: list(part_problems(snapshot, part)), snapshot.parts)
        return [problem for problems in found for problem in problems]


def hint_of(dataset: Dataset, census: Census, directory: str, images: str, column: str | None) -> str | None:
    hints = []
    inputs = "sentences" if dataset.kind == TRANSLATIONS.name else "pictures"
    if census.missing.count and census.extra.count > MOST_PRUNED * (census.rows + census.failures):
        missing, extra = census.missing.examples[0], census.extra.examples[0]
        return (
            f"{images} has {missing!r}, and the set has {extra!r}. Are these the same {inputs} by other ids? "
            "Then say --of what the set was made of: the same folder, listing or corpus."
        )
    of_table = f" --column {shlex.quote(column)}" if column else ""
    tries = f"tries again what failed: {census.failures_listed:,} without a row"
    doings = [(" --retry-failed", tries)] if census.failures_listed else []
    doings += [("", "does what is missing")] if census.missing.count else []
    doings += [(" --redo-changed", "does again what has changed")] if census.stale.count else []
    if doings:  # which model it is may be asked of MLflow
        command, remark = again(dataset, directory, images)
        hints += [f"{command}{of_table}{option}\n  {does}" for option, does in doings]
        hints += [remark] if remark else []
    if census.extra.count:
        extra = f"{census.extra.count:,} {plural(inputs.removesuffix('s'), census.extra.count)}"
        hints.append(
            f"{pruning(directory, images, column, dataset.fingerprint)}\n"
            f"  drops what the set has of {extra} that {images} does not have"
        )
    return "\n".join(hints) or None


def check(directory: str, file: str, check_bytes: bool = False) -> Outcome:
    """Whether a set is still what a certificate says.

    Raises:
        UserError: the file is no whole certificate, was changed, or is of a set that the store does not have.
    """
    content = read(file)
    store = Store(directory)
    there = {dataset.fingerprint: dataset for dataset in store.datasets()} or {"": store.open()}
    dataset = there.get(content["set"])
    if dataset is None:
        raise UserError(
            f"{file} is the certificate of the set {content['set']} in {content['store']}; {directory} has "
            f"{', '.join(sorted(there))}."
        )
    snapshot = dataset.snapshot()
    problems = damaged_files(snapshot) if check_bytes else []
    before = content["digest"]["with_all_versions"]
    if not problems and (now := own_hash(snapshot)) != before:
        rows, failures = snapshot.rows - content["rows"], snapshot.failed - content["failures"]["count"]
        problems.append(
            f"its inputs are others than at {content['made']}: {rows:+,} rows, {failures:+,} failures; by id and "
            f"version their hash is {now[:16]}..., and was {before[:16]}..."
        )
    summary = {"store": directory, "set": dataset.fingerprint, "certificate": file, "made": content["made"]}
    summary |= {"complete": content["complete"], "holds": not problems, "rows": snapshot.rows}
    words = ["rnncond", "store", "certify", directory, "--of", content["of"], "--set", dataset.fingerprint]
    anew = f"{shlex.join(words)}\n  certifies what is there now"
    return Outcome(summary, len(problems), problems[:20], anew if problems else None, trouble="differ")


def read(file: str) -> dict[str, Any]:
    """A certificate.

    Raises:
        UserError: it is not there, not whole, was changed since it was written, or of a newer version.
    """
    folder, name = folder_and_name(file)
    files = Store(folder).files
    raw = files.read(name)
    if raw is None:
        raise UserError(f"--check: there is no file {file}.")
    try:
        content = json.loads(raw)
        if not isinstance(content, dict) or "sha256" not in content:
            raise ValueError("it has no sha256")
    except ValueError as error:
        raise UserError(
            f"--check: {file} is no whole certificate: {error}. Expected is what `rnncond store certify` wrote."
        ) from None
    if digest_of(content) != content["sha256"]:
        raise UserError(
            f"--check: {file} was changed since it was written: its SHA-256 is {digest_of(content)[:16]}..., and it "
            f"says {str(content['sha256'])[:16]}... Take the file as `rnncond store certify` wrote it."
        )
    if content.get("schema") != SCHEMA:
        raise UserError(
            f"--check: {file} has schema {content.get('schema')!r}, written by rnncond "
            f"{content.get('versions', {}).get('rnncond')}; this version reads {SCHEMA}."
        )
    return content
