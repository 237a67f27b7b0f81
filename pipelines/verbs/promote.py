"""``rnncond promote``: a model into MLflow's registry, and to its head if it is the best there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pipelines.config import sections
from pipelines.config.dotted import absolute
from pipelines.config.metrics import value_of
from pipelines.config.sections import TrackingSection
from pipelines.console import WAITING, Outcome
from pipelines.errors import Fault, UserError
from pipelines.evaluation import output
from pipelines.evaluation.caption_results import of_split
from pipelines.evaluation.results import CAPTIONS, TRANSLATIONS, Evaluation, Row
from pipelines.evaluation.significance import gain
from pipelines.evaluation.translation_files import read_references
from pipelines.evaluation.translation_results import what_to_translate
from pipelines.features.sources import check_backbone
from pipelines.files.jsonl import read_lines
from pipelines.inference.decoder import default_device
from pipelines.inputs.captions import read_captions
from pipelines.tracking import registry
from pipelines.tracking.address import tracking_uri as address_of
from pipelines.tracking.client import client_at
from pipelines.tracking.lineage import held_out, sha256_of
from pipelines.tracking.models import locate, weights_in
from pipelines.tracking.packaging import log_model, uris_tag
from pipelines.training.run.info import RunInfo, read_run
from pipelines.verbs import evaluate
from rnncond import checkpoint
from rnncond.checkpoint import Trained

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LESS_IS_BETTER = ("TER",)
ALL_SCORES = {
    False: ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE_L", "CIDEr", "METEOR", "SPICE"),
    True: ("BLEU", "chrF", "TER"),
}
"""That an evaluation may have, of captions and of text."""
TRAINED = "trained."
"""Before the tags of what training found, of a version whose own are of the user's data."""
EXPERIMENT = TrackingSection().experiment
"""Of models that were trained elsewhere."""


def run(
    model: str,
    name: str,
    *,
    data: list[str] | None = None,
    source: str | None = None,
    store: str | None = None,
    split: str | None = None,
    beam: int = 5,
    metric: str | None = None,
    weights: str | None = None,
    allow_uri: list[str] | None = None,
    tracking_uri: str | None = None,
    anyway: bool = False,
) -> Outcome:
    """Register the model, and compare it with the champion. The arguments are the command line's."""
    if not data and (source or store or split):
        raise UserError("--source, --store and --split say how both models are scored on --data; say --data FILE, too.")
    try:
        option = "--name"
        sections.model_name(name)
        option = "--allow-uri"
        allowed = [sections.uri_prefix(prefix) for prefix in allow_uri or ()]
    except ValueError as error:
        raise UserError(f"{option}: {error}.") from None
    WAITING.phase("loading the model")
    folder = locate(model, tracking_uri)
    trained = checkpoint.load(folder, default_device() if data else "cpu")
    if allowed and not trained.features:
        raise UserError("--allow-uri: a translator opens no addresses; leave it out.")
    if weights:
        check_backbone(trained.features, weights)
    about = read_run(folder.parent)
    uri = address_of(tracking_uri, fallback=about.get("mlflow_uri"))
    client = client_at(uri)
    present = registry.champion(client, name)
    same = present is not None and present.tags.get(registry.MODEL_ID) == trained.model_id
    opens_the_same = present is not None and present.tags.get(registry.ALLOWED_URIS) == uris_tag(allowed)
    # The champion itself, named without what it opens, is to open nothing from now on, which is another version.
    as_it_is = not weights and not allowed and (anyway or not same)
    earlier = registry.version_named(client, name, model) if as_it_is else None
    back = earlier if anyway and not data else None
    if present is not None:
        if same:
            check_scoring(trained, model, metric, data, source, split)
        unchanged = same and opens_the_same and (not weights or registry.WEIGHTS in present.tags)
        if unchanged or (back and back.version == present.version):
            return outcome(uri, name, present, "it is the champion already", trained)
    if back:
        registry.set_champion(client, back)
        instead = f", in place of version {present.version}" if present is not None else ""
        return outcome(uri, name, back, f"it is the champion, as --anyway asks{instead}", trained)
    unit = (TRANSLATIONS if trained.source_vocabulary else CAPTIONS).unit
    warnings: dict[str, str] = {}
    theirs: Mapping[str, str] = present.tags if present is not None else {}
    scored: tuple[Scored, Scored] | None = None
    if data:
        metric = metric or ("BLEU" if trained.source_vocabulary else "CIDEr")
        judge = partial(evaluated, metric, data, source, store=store, split=split, beam=beam)
        ours = judge(folder, loaded=trained)
        warnings |= output.about_seen(ours.evaluation, unit)
        tags = ours.tags
        if "recipe" in trained.info:
            tags |= {f"{TRAINED}{key}": value for key, value in recorded(None, trained.info).items()}
        if present is not None and not same:
            champion = judge(locate(f"models:/{name}@{registry.CHAMPION}", uri))
            warnings |= output.about_seen(champion.evaluation, unit, "champion ")
            theirs, scored = champion.tags, (champion, ours)
    elif "recipe" not in trained.info:
        raise UserError(
            f"The model {model} was saved without a recipe, so nothing is known of its training. Give --data with "
            "references, to score it and the champion on."
        )
    else:
        tags = recorded(metric, trained.info)
        metric = metric or trained.info["recipe"]["training"]["early_stopping"]["metric"]
    if earlier:
        version = earlier
    else:
        travelling = weights or weights_in(folder)
        WAITING.phase("handing the model to MLflow")
        run_id = run_of(client, model, folder, about)
        logged_id = log_model(client, run_id, folder, weights=travelling, allowed_uris=allowed, trained=trained)
        version = registry.register(client, name, logged_id, tags)
    if present is None:
        score = registry.shown(tags, metric)
        better, verdict = True, f"it is the champion, the first{', with ' if score else ''}{score}"
    elif same:
        better, verdict = True, f"it is the champion as before, now {changes(allowed, opens_the_same, weights)}"
    else:
        again = "; --anyway without --data makes it the champion" if earlier else ""
        better, verdict = beats_champion(version, present, tags, theirs, metric, scored, anyway, again)
    if better:
        now = registry.champion(client, name)
        if (now and now.version) != (present and present.version):
            raise Fault(f"The champion of {name} was changed by somebody else meanwhile. Run the same command again.")
        registry.set_champion(client, version)
    return outcome(uri, name, version, verdict, trained, warnings, refused=not better)


def changes(allowed: list[str], opens_the_same: bool, weights: str | None) -> str:
    """What a version has that the champion before it, of the same model, had not."""
    opening = f"opening {' and '.join(allowed)}" if allowed else "opening no addresses"
    found = [] if opens_the_same else [f"{opening} when served"]
    return " and ".join(found + ([f"with the weights in {Path(weights).name}"] if weights else []))


def beats_champion(
    version: ModelVersion,
    present: ModelVersion,
    tags: Mapping[str, str],
    theirs: Mapping[str, str],
    metric: str,
    scored: tuple[Scored, Scored] | None,
    anyway: bool,
    again: str,
) -> tuple[bool, str]:
    """Whether a version is to be the champion in place of ``present``, and why.

    Args:
        tags, theirs: the scores of the two.
        scored: the champion and the version on the user's data, if there are any.
        anyway: also where the gain may be noise.
        again: what can still be done about a version whose score is lower.

    Raises:
        UserError: the two were not scored on the same data.
    """
    better = registry.beats(tags, theirs, metric)
    if better is None and not scored:  # it was promoted by other data, and what its training found may be of ours
        theirs = {key.removeprefix(TRAINED): value for key, value in theirs.items() if key.startswith(TRAINED)}
        better = registry.beats(tags, theirs, metric)
    if better is None:
        raise UserError(
            f"{version.name} version {version.version} is registered; whether it beats the champion, version "
            f"{present.version}, is not known: they were not scored by {metric} on the same data. Score both now: "
            "--data FILE."
        )
    scores = registry.compared(tags, theirs, metric, present.version)
    if not better:
        return False, f"not the champion: {scores}{again}"
    if scored:
        WAITING.phase("drawing examples again, to see whether the gain is noise")
        before, ours = scored
        gained = gain(metric, before.rows, ours.rows, ours.evaluation)
        scores = f"{scores}, a gain of {gained}"
        if gained.is_noise and not anyway:
            return False, f"not the champion: {scores}, which may be noise; --anyway makes it the champion"
    return True, f"it is the champion: {scores}"


def outcome(
    tracking: str,
    name: str,
    version: ModelVersion,
    verdict: str,
    trained: Trained,
    warnings: Mapping[str, str] | None = None,
    refused: bool = False,
) -> Outcome:
    """What the verb shows; a ``refused`` version is called by its number, since the champion is another.

    Args:
        tracking: the address of the MLflow that has the version.
    """
    summary = {"model": f"{trained.system} {trained.model_id}", "name": name, "version": int(version.version)}
    uri = f"models:/{name}/{version.version}" if refused else f"models:/{name}@{registry.CHAMPION}"
    translates = trained.source_vocabulary is not None
    command = registry.decoding(uri, translates, registry.WEIGHTS in version.tags, tracking)
    return Outcome(summary | {"verdict": verdict} | dict(warnings or {}), hint=f"Next: {command}")


def recorded(metric: str | None, info: Mapping[str, Any]) -> dict[str, str]:
    """The score that training found on its validation data, as tags of a version; the higher the better.

    Args:
        metric: that the user named; None for the recipe's, without which a model that was never validated has no tags.
        info: of the model.
    """
    name = metric or info["recipe"]["training"]["early_stopping"]["metric"]
    try:
        value = value_of(dict(info), name)
    except KeyError:
        if metric is None:
            return {}
        there = ", ".join(sorted(key for key, value in info.items() if isinstance(value, float))) or "none"
        raise UserError(f"--metric {metric}: training recorded no such score; there are {there}.") from None
    return {name: str(value), registry.HELD_OUT: held_out(info["recipe"]["data"]) or ""}


class Scored(NamedTuple):
    """A score as tags of a version, the higher the better, and what the evaluation wrote."""

    tags: dict[str, str]
    rows: list[Row]
    evaluation: Evaluation


def check_scoring(
    trained: Trained, model: str, metric: str | None, data: list[str] | None, source: str | None, split: str | None
) -> None:
    """Refuse what scoring would refuse, where none is done because the model is the champion already."""
    if not data:
        if "recipe" in trained.info:
            recorded(metric, trained.info)
        return
    known = ALL_SCORES[trained.source_vocabulary is not None]
    if metric and metric not in known:
        raise no_such_score(metric, known)
    if trained.source_vocabulary is None:
        of_split(read_captions(absolute(data[0])), split or "val", data[0])
    else:
        _, references, columns, _ = what_to_translate(trained, model, source and absolute(source), data)
        read_references(references or [str(source)], usual=columns[1])


def no_such_score(metric: str, known: Iterable[str]) -> UserError:
    return UserError(f"--metric {metric}: there is no such score; there are {', '.join(known)}.")


def evaluated(
    metric: str, data: list[str], source: str | None, folder: Path, loaded: Trained | None = None, **options: Any
) -> Scored:
    """The score on the user's data of the model in ``folder``, which may be loaded already."""
    with tempfile.TemporaryDirectory() as place:
        evaluate.run(model=str(folder), data=data, source=source, out=place, loaded=loaded, **options)
        evaluation: Evaluation = json.loads(Path(place, output.SUMMARY).read_text(encoding="utf-8"))
        rows = cast(list[Row], read_lines(Path(place, output.ROWS)))
    scores = evaluation["scores"]
    if metric not in scores:
        raise no_such_score(metric, scores)
    identity = [sha256_of(path) for path in (*data, *([source] if source else []))] + [options]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    value = -scores[metric] if metric in LESS_IS_BETTER else scores[metric]
    return Scored({metric: str(value), registry.HELD_OUT: digest}, rows, evaluation)


def run_of(client: MlflowClient, model: str, folder: Path, about: RunInfo) -> str:
    """The MLflow run that a model is of; a new one for a model that has none there."""
    from mlflow.exceptions import MlflowException

    named = re.match("runs:/([^/]+)", model)
    run_id = named[1] if named else about.get("mlflow_run_id")
    if run_id:
        with contextlib.suppress(MlflowException):
            return client.get_run(run_id).info.run_id
    experiment = client.get_experiment_by_name(EXPERIMENT)
    number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    run_id = client.create_run(number, run_name=f"promote {folder.name}").info.run_id
    client.set_terminated(run_id)
    return run_id
