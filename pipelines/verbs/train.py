"""``rnncond train``: a recipe becomes a model, on Ray Train, tracked in MLflow.

See ``pipelines.training.driver`` for what the driver does, and ``pipelines.training.learner`` for the training loop.
"""

from __future__ import annotations

from pipelines.config.recipe import limited, read_recipe
from pipelines.console import Outcome
from pipelines.engine.dry_run import refuse_lone_price
from pipelines.training.driver import launch, tracked_at
from pipelines.training.dry_run import run as try_steps
from pipelines.training.launch import TrainJob


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
    """Train a recipe to its end, or resume its training. The arguments are the command line's.

    Raises:
        UserError, Fault: see ``launch``.
    """
    refuse_lone_price(price_per_hour, dry_run)
    given = tracked_at(tracking_uri, overrides)
    if limit is not None:
        given += limited(read_recipe(recipe, given, out), limit)
    resolved = read_recipe(recipe, given, out)
    if cfg:
        print(resolved.to_yaml(), end="")
        return Outcome({"recipe": resolved.model_dump(mode="json")}, printed=True)
    if dry_run:
        return try_steps(TrainJob(resolved), address, restart, sample, price_per_hour, wait)
    return launch(TrainJob(resolved), address, restart, wait)
