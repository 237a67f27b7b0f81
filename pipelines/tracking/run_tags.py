"""What every run in MLflow says of how it came to be: who began it, by which command and code, and on which data.

Those of MLflow's own names fill the columns User and Source of its pages, as those do that its fluent interface sets.
"""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pipelines
from pipelines.config.recipe import Recipe

MOST = 500
"""Characters of a value."""
GIT_SECONDS = 5


def run_name(recipe: Recipe, folder: str) -> str:
    """A name that says what a run is: of its folder, with the system where that does not say it."""
    return folder if recipe.system in folder else f"{recipe.system} {folder}"


def run_tags(recipe: Recipe) -> dict[str, str]:
    """The tags of a run of ``recipe`` that this process begins. What is not known is left out."""
    commit = commit_of(Path(pipelines.__file__).parent) or commit_of(Path.cwd())
    tags = {
        "mlflow.user": user(),
        "mlflow.source.name": command(),
        "mlflow.source.type": "JOB" if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else "LOCAL",
        "mlflow.source.git.commit": commit,
        "rnncond.version": metadata.version("rnncond"),
        "rnncond.system": recipe.system,
        "rnncond.dataset": dataset(recipe),
    }
    return {name: value[:MOST] for name, value in tags.items() if value}


def user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        return None


def command() -> str:
    """The command line, as it can be given again; of another program its name."""
    program = Path(sys.argv[0])
    if program.stem == "rnncond" or Path(pipelines.__file__).parent in program.absolute().parents:
        return shlex.join(["rnncond", *sys.argv[1:]])
    return program.name or "python"


def commit_of(folder: Path) -> str | None:
    """The commit that is checked out where ``folder`` is; None where it is in no repository, or there is no git."""
    call = ["git", "-C", str(folder), "rev-parse", "--verify", "HEAD"]
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def dataset(recipe: Recipe) -> str:
    """The files that a recipe learns from, and the part of them."""
    data = recipe.data.model_dump()
    if "captions" in data:
        return f"{data['captions']} ({data['train']}), {data['output']} features of {data['store']}"
    return " and ".join(filter(None, [data["source"], data["target"]]))
