"""``rnncond train``: a recipe becomes a model, on Ray Train, tracked in MLflow.

The driver checks everything first, then starts a ``RunFolder`` on its own machine and workers wherever there is room.
Workers run ``pipelines.training.learner`` and send what they have to the journal; the driver reads along, prints, and
alone talks to MLflow. Whatever dies, the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import threading
import uuid
from functools import partial
from pathlib import Path

from pipelines.cluster.connection import connect
from pipelines.cluster.resources import place
from pipelines.config.metrics import VALIDATED
from pipelines.config.recipe import read_recipe
from pipelines.console import Outcome, tell
from pipelines.features.sources import check_backbone
from pipelines.files.jsonl import read_lines
from pipelines.tracking.client import check_reachable, import_mlflow, uri_of
from pipelines.tracking.mlflow_run import Tracking, end_thrown_away
from pipelines.training.data.task import prepare
from pipelines.training.launch import LOCK_SECONDS, NEXT, differences, thrown_away, tracked_at, train, versions
from pipelines.training.optimizer import check_precision
from pipelines.training.run_actor import journal_of
from pipelines.training.run_folder import now, read_run


def run(
    recipe: str,
    overrides: list[str] | tuple[str, ...] = (),
    *,
    out: str | None = None,
    address: str | None = None,
    restart: bool = False,
    tracking_uri: str | None = None,
) -> Outcome:
    """Train a recipe to its end, or resume its training. The arguments are the command line's."""
    resolved = read_recipe(recipe, tracked_at(tracking_uri, overrides), out)
    folder = Path(resolved.out).absolute()
    known = {} if restart else read_run(folder)
    changed = differences(folder, resolved, known)
    done = bool(known) and known["status"] == "finished" and "training.epochs" not in changed
    if not done:
        check_reachable(uri_of(resolved))  # before the data are prepared
    task, about = prepare(resolved, address)
    check = partial(differences, folder, resolved, data_id=task.data_id)
    check(known)
    if done:
        tell(f"The run in {folder} is finished; --restart would begin it again.")
        if (name := resolved.tracking.registered_model) and "tracking.registered_model" in changed:
            tell(f"Its model is not registered as {name}: `rnncond promote --model {folder} --name {name}` does that.")
        return summary(folder)
    if resolved.tracking.backbone_weights:
        check_backbone(task.features, resolved.tracking.backbone_weights)
    if "unmatched" in about:
        tell(f"Left out: {about['unmatched']}.")
    threading.Thread(target=import_mlflow, daemon=True).start()  # while Ray starts
    with connect(address) as cluster:
        share = place(resolved, cluster)
        check_precision(resolved.training, "cuda" if share.gpus else "cpu")
        with journal_of(folder) as journal:
            about |= {"data_id": task.data_id, "versions": versions(), "mlflow_key": uuid.uuid4().hex}
            if restart:
                check_reachable(uri_of(resolved))  # still, before the old run is thrown away
            old = thrown_away(folder) if restart else {}
            begun = journal.open(resolved.to_yaml(), about, restart, LOCK_SECONDS, check)
            status = "failed"
            try:
                run_id, key = begun.get("mlflow_run_id"), begun.get("mlflow_key")
                with Tracking(resolved, folder.name, run_id, key=key) as tracking:
                    journal.say(mlflow_run_id=tracking.run_id, mlflow_uri=tracking.uri)
                    end_thrown_away(old)
                    tracking.describe(task)
                    train(task, journal, tracking, share, folder)
                status = "finished"
            except (KeyboardInterrupt, SystemExit):  # Ray makes the latter of SIGTERM
                status = "interrupted"
                raise
            finally:
                journal.say(status=status, ended=now())
    return summary(folder)


def summary(folder: Path) -> Outcome:
    run, lines = read_run(folder), read_lines(folder / "metrics.jsonl")
    best = run["best"]
    scores = {key: round(best[key], 3) for key in VALIDATED if key in best}
    scores |= {f"averaged_{key}": round(value, 3) for key, value in run.get("averaged", {}).items() if key in VALIDATED}
    return Outcome(
        {
            "epochs": lines[-1]["epoch"],
            "best_epoch": best["epoch"],
            **scores,
            "training_seconds": round(sum(line["seconds"] for line in lines), 1),
            "model": str(folder / "best"),
            **({"averaged_model": str(folder / "averaged")} if "averaged" in run else {}),
            "mlflow_run": run["mlflow_run_id"],
        },
        hint=f"Next: rnncond {NEXT['BLEU' in best]} --model {folder / 'best'} --out {folder.name}-output",
    )
