"""``rnncond tune``: many trainings of a recipe with other values, on Ray Tune, tracked in MLflow; the best is kept.

The driver checks everything first and prepares the data once. Trials train wherever there is room and hand what they
have to one actor on the driver's machine (``trials.Trials``), so the cluster needs no shared file system.

```
OUT/
  recipe.yaml      of the best trial: `rnncond train OUT/recipe.yaml --out ELSEWHERE` repeats it
  search.yaml      the recipe that was varied, with its section tune: `rnncond tune OUT/search.yaml` searches again
  run.json         status, the best trial, MLflow run, versions
  trials.jsonl     a line a trial: values, score, epochs, status, seconds
  trials/003/      a trial, an ordinary run folder
  best/            the best trial's best model, as `rnncond caption --model OUT` takes it
```
"""

from __future__ import annotations

import threading
import uuid
from contextlib import closing
from functools import partial
from pathlib import Path

from pipelines.cluster.connection import connect
from pipelines.cluster.resources import room
from pipelines.config.metrics import VALIDATED
from pipelines.config.search_space import Search, read_search
from pipelines.console import Outcome, tell
from pipelines.tracking.client import check_reachable, import_mlflow, needed, uri_of
from pipelines.tracking.mlflow_run import Tracking, end_thrown_away
from pipelines.training.data.task import prepare
from pipelines.training.launch import LOCK_SECONDS, NEXT, thrown_away, tracked_at, versions
from pipelines.training.optimizer import check_precision
from pipelines.training.run_folder import RunFolder, now, read_run
from pipelines.tuning.algorithms import left
from pipelines.tuning.launch import refuse_differences, register_best, try_out
from pipelines.tuning.trials import records
from pipelines.tuning.watch import catch_up


def run(
    recipe: str,
    overrides: list[str] | tuple[str, ...] = (),
    *,
    out: str | None = None,
    address: str | None = None,
    restart: bool = False,
    tracking_uri: str | None = None,
) -> Outcome:
    """Search to the end, or resume the search. The arguments are the command line's."""
    search = read_search(recipe, tracked_at(tracking_uri, overrides), out)
    folder = Path(search.recipe.out)
    known = {} if restart else read_run(folder)
    refuse_differences(folder, search, known)
    done = bool(known) and known["status"] == "finished" and not left(search, records(folder))
    if not done:
        check_reachable(uri_of(search.recipe))  # before the data are prepared
    task, about = prepare(search.recipe, address)
    check = partial(refuse_differences, folder, search, data_id=task.data_id)
    check(known)
    if done:
        tell(f"The search in {folder} is finished; --restart would begin it again.")
        return summary(folder, search)
    if "unmatched" in about:
        tell(f"Left out: {about['unmatched']}.")
    threading.Thread(target=import_mlflow, daemon=True).start()  # while Ray starts
    with connect(address) as cluster, closing(RunFolder(folder)) as journal:
        share = room(search, cluster)
        check_precision(search.recipe.training, share.device)
        about |= {"search": search.settings.algorithm, "data_id": task.data_id, "versions": versions()}
        about |= {"mlflow_key": uuid.uuid4().hex}
        if restart:
            check_reachable(uri_of(search.recipe))  # still, before the old search is thrown away
        old = thrown_away(folder) if restart else {}
        begun = journal.open(search.recipe.to_yaml(), about, restart, LOCK_SECONDS, check)
        status = "failed"
        try:
            journal.write("search.yaml", search.to_yaml())
            tags = {"search": search.settings.algorithm}
            run_id, key = begun.get("mlflow_run_id"), begun.get("mlflow_key")
            with Tracking(search.recipe, folder.name, run_id, key=key, tags=tags) as tracking:
                journal.say(mlflow_run_id=tracking.run_id, mlflow_uri=tracking.uri)
                end_thrown_away(old)
                tracking.describe(task)
                with needed(tracking.uri):
                    tracking.client.log_artifact(tracking.run_id, str(folder / "search.yaml"))
                try_out(search, task, folder, tracking, share)
                catch_up(search, folder, tracking)
                register_best(search, task, folder, journal, tracking)
            status = "finished"
        except (KeyboardInterrupt, SystemExit):  # Ray makes the latter of SIGTERM
            status = "interrupted"
            raise
        finally:
            journal.say(status=status, ended=now())
    return summary(folder, search)


def summary(folder: Path, search: Search) -> Outcome:
    run, found = read_run(folder), records(folder)
    best = run["best"]
    failed = [record for record in found if record.status == "failed"]
    scores = {key: round(best[key], 3) for key in VALIDATED if key in best}
    verb = NEXT["BLEU" in best]
    return Outcome(
        {
            "trials": len(found),
            "stopped_early": sum(record.status == "stopped" for record in found),
            "epochs": sum(record.epoch for record in found),
            "best_trial": best["trial"],
            **{key: value for key, value in best["params"].items()},
            "best_epoch": best["epoch"],
            **scores,
            "model": str(folder / "best"),
            "mlflow_run": run["mlflow_run_id"],
        },
        failed=len(failed),
        failures=[f"trial {record.name}: {record.run.get('reason')}" for record in failed[:5]],
        hint=f"Next: rnncond report {folder}\n      rnncond {verb} --model {folder} --out {folder.name}-output",
    )
