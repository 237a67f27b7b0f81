"""``rnncond train``: a recipe becomes a model, on Ray Train, tracked in MLflow.

See ``pipelines.training.driver`` for what the driver does, and ``pipelines.training.learner`` for the training loop.
"""

from __future__ import annotations

from pipelines.config.recipe import read_recipe
from pipelines.console import Outcome
from pipelines.training.driver import launch, tracked_at
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
) -> Outcome:
    """Train a recipe to its end, or resume its training. The arguments are the command line's.

    Raises:
        UserError, Fault: see ``launch``.
    """
    resolved = read_recipe(recipe, tracked_at(tracking_uri, overrides), out)
    if cfg:
        print(resolved.to_yaml(), end="")
        return Outcome({"recipe": resolved.model_dump(mode="json")}, printed=True)
    return launch(TrainJob(resolved), address, restart)
