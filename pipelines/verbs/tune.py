"""``rnncond tune``: many trainings of a recipe with other values, on Ray Tune, tracked in MLflow; the best is kept.

The driver checks everything first and prepares the data once. Trials train wherever there is room and hand what they
have to one actor on the driver's machine (``training.run.writer``), so the cluster needs no shared file system.

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

from pipelines.config.recipe import limited, read_recipe
from pipelines.config.search_space import read_search
from pipelines.console import Outcome
from pipelines.engine.dry_run import refuse_lone_price
from pipelines.training.driver import launch, tracked_at
from pipelines.tuning.dry_run import run as try_steps
from pipelines.tuning.launch import TuneJob


def run(
    recipe: str,
    overrides: list[str] | tuple[str, ...] = (),
    *,
    out: str | None = None,
    address: str | None = None,
    restart: bool = False,
    tracking_uri: str | None = None,
    cfg: bool = False,
    limit: int | None = None,
    dry_run: bool = False,
    sample: int = 8,
    price_per_hour: str | None = None,
    wait: float = 3600,
) -> Outcome:
    """Search to the end, or resume the search. The arguments are the command line's.

    Raises:
        UserError, Fault: see ``launch``.
    """
    refuse_lone_price(price_per_hour, dry_run)
    given = tracked_at(tracking_uri, overrides)
    if limit is not None:
        given += limited(read_recipe(recipe, given, out), limit)
    search = read_search(recipe, given, out)
    if cfg:
        print(search.to_yaml(), end="")
        return Outcome({"recipe": search.recipe.model_dump(mode="json")}, printed=True)
    if dry_run:
        return try_steps(TuneJob(search), address, restart, sample, price_per_hour, wait)
    return launch(TuneJob(search), address, restart, wait)
