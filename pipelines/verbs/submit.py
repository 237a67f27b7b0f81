"""``rnncond submit``: a verb as a job on a cluster.

The job is the same command, run on the cluster's head node (or, with ``--cpus`` or ``--gpus``, where they are free).
Nothing is kept here: the cluster knows its jobs by their ids, so any machine may ask for them.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shlex
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from ray.job_submission import JobType
from typer.core import TyperGroup

from pipelines.cluster.jobs import POLL_SECONDS, Server, about
from pipelines.console import Outcome, tell
from pipelines.errors import UserError
from pipelines.verbs.main import VERBS

STOP_SECONDS = 60
LEFT_OUT = ["/runs", "/demo", "/mlruns", "/mlartifacts", "mlflow.db", "*.log", ".venv-*"]
"""Of a working folder, beside what .gitignore names and what Ray leaves out: .git, .venv, venv, __pycache__."""
HOME = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"
"""What Ray replaces by the place of the working folder on a node."""


class Jobs(TyperGroup):
    """``start`` is meant where no other command is named."""

    def parse_args(self, ctx, args):
        known = {*self.commands, "--help"}
        return super().parse_args(ctx, args if not args or args[0] in known else ["start", *args])


app = typer.Typer(
    cls=Jobs,
    help="Run a verb as a job on a Ray cluster: rnncond submit [OPTIONS] -- VERB ...",
    epilog="For example: rnncond submit --address http://head:8265 -- features s3://bucket/photos/ --store "
    "s3://bucket/store. The options are those of `rnncond submit start --help`.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)

Address = Annotated[
    str | None,
    typer.Option(
        help="of the cluster's dashboard, http://HOST:8265; by default RAY_API_SERVER_ADDRESS, or this machine"
    ),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="of the job, as `rnncond submit` said")]


@app.command(context_settings={"allow_interspersed_args": False})
def start(
    command: Annotated[list[str], typer.Argument(metavar="VERB ...", help="what follows `rnncond`")],
    address: Address = None,
    follow: Annotated[bool, typer.Option(help="show the job's output, and end with its exit code")] = True,
    name: Annotated[
        str | None, typer.Option("--id", help="the job's id: with the same id a command is started only once")
    ] = None,
    working_dir: Annotated[
        str | None, typer.Option(help="a folder that the job is given a copy of, and runs in; without data, please")
    ] = None,
    install: Annotated[
        bool,
        typer.Option(
            "--install", help="install what the project in --working-dir depends on, pinned by its constraints.txt"
        ),
    ] = False,
    env: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, or KEY with its value here; repeatable")] = None,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs of the command itself; with 0 it runs on the head")] = 0,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of the command itself, as for `evaluate`")] = 0,
) -> Outcome:
    """Run a verb as a job. A job that is followed ends this command with its own exit code.

    \b
    Examples:
      rnncond submit --address http://head:8265 -- features s3://bucket/photos/ --store s3://bucket/store
      rnncond submit --working-dir . --id nightly-2026-11-23 --no-follow -- train recipe.yaml --out /shared/runs/nightly
      rnncond submit --working-dir . --install --env MLFLOW_TRACKING_URI -- caption ...
    """
    refuse_wrong(command)
    if working_dir is not None:
        refuse_lost(command)
        stages = stages_of(command, working_dir) if command[0] == "run" else {}
        refuse_lost_of(stages)
        warn_of_tracking([command, *stages.values()], env or ())
    environment = runtime_environment(working_dir, install, env or ())
    job = name or f"{command[0]}-{datetime.now():%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"
    cluster = Server.at(address)
    own = working_dir is not None and is_project(Path(working_dir))
    entrypoint = shlex.join([*(("python", "-m", "pipelines.verbs.main") if own else ("rnncond",)), *command])
    if cluster.start(job, entrypoint, environment, cpus, gpus):
        tell(f"The job is {job}.")
    else:
        tell(f"The job {job} is there already; it is not started again.")
    return cluster.follow(job) if follow else cluster.outcome(job, cluster.commands(job))


@app.command()
def status(job: Id, address: Address = None) -> Outcome:
    """What a job is, and how it ended."""
    return Server.at(address).outcome(job)


@app.command()
def logs(
    job: Id,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="until the job ends, and end with its exit code")] = False,
) -> Outcome:
    """What a job has said so far."""
    cluster = Server.at(address)
    if follow:
        return cluster.follow(job)
    typer.echo(cluster.ask(lambda client: client.get_job_logs(job), job), nl=False)
    return cluster.outcome(job)


@app.command()
def stop(job: Id, address: Address = None) -> Outcome:
    """End a job. What it has committed is kept, and the same command goes on from there."""
    cluster = Server.at(address)
    cluster.ask(lambda client: client.stop_job(job), job)
    deadline = time.monotonic() + STOP_SECONDS
    while not (details := cluster.details(job)).status.is_terminal():
        if time.monotonic() > deadline:
            raise UserError(f"The job {job} has not ended within {STOP_SECONDS} seconds; try again.")
        time.sleep(POLL_SECONDS)
    return Outcome(about(details))


@app.command(name="list")
def list_jobs(address: Address = None) -> Outcome:
    """The cluster's jobs, the newest first."""
    found = Server.at(address).ask(lambda client: client.list_jobs())
    found = [job for job in found if job.type == JobType.SUBMISSION]
    found.sort(key=lambda job: job.start_time or 0, reverse=True)
    return Outcome({"jobs": len(found)} | {job.submission_id: f"{job.status}: {job.entrypoint}" for job in found})


def refuse_wrong(command: Sequence[str]) -> None:
    """A verb that there is not, before anything is sent."""
    verbs = [verb for verb in VERBS if verb != "submit"]
    if command[0] not in verbs:
        near = difflib.get_close_matches(command[0], verbs, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        if command[0] in ACTIONS:
            hint = f" To ask for a job, put the options behind: rnncond submit {command[0]} ID --address URL."
        raise UserError(f"There is no verb {command[0]!r} to submit; there are {', '.join(verbs)}.{hint}")


ACTIONS = ("status", "logs", "stop", "list")
OUTPUTS = ("--out", "--text", "--to", "--save-listing", "--keep-features")
"""Options that name what a verb writes; of `features` also --store."""
HAVE_DEFAULTS = ("train", "tune", "demo")
"""Verbs that write into the folder they run in, unless --out is given; and never into object storage."""
LOCAL = ("run", "evaluate", "report")
"""Others whose --out or --to is never in object storage."""

BESIDE = ("--model", "--captions", "--translations")
"""Options of `evaluate` that name where its results go, unless --out is given; a model in MLflow has no such place."""


def refuse_lost(command: Sequence[str]) -> None:
    """Work that would be written into the job's copy of the working folder, which Ray deletes."""
    options = (*OUTPUTS, "--store") if command[0] == "features" else OUTPUTS
    words = [part for word in command for part in (word.split("=", 1) if word.startswith("--") else [word])]
    said = {word: value for word, value in pairwise(words) if word in options}
    if command[0] in HAVE_DEFAULTS and "--out" not in said:
        raise UserError(
            f"--out is missing: {command[0]} would write into the job's own copy of --working-dir and be lost with it. "
            "Expected is --out with an absolute path."
        )
    if command[0] == "evaluate" and "--out" not in said:
        for option, value in pairwise(words):
            if option in BESIDE and not value.startswith(("/", "runs:", "models:")) and "://" not in value:
                raise UserError(
                    f"{option}: found {value}, and the results would lie in it, in the job's own copy of "
                    "--working-dir, and be lost with it. Expected is --out with an absolute path."
                )
    for option, value in said.items():
        anywhere = option not in ("--out", "--to") or command[0] not in (*LOCAL, *HAVE_DEFAULTS)
        if not value.startswith("/") and not (anywhere and "://" in value):
            raise UserError(
                f"{option}: found {value}, which would lie in the job's own copy of --working-dir and be lost with it. "
                f"Expected is an absolute path{', or s3:// or gs:// where the verb takes it' * anywhere}."
            )


def refuse_lost_of(stages: Mapping[str, Sequence[str]]) -> None:
    """The same of all that a pipeline does."""
    problems = []
    for place, command in stages.items():
        try:
            refuse_lost(command)
        except UserError as error:
            problems.append(f"  {place}: {error}")
    if problems:
        raise UserError("What the pipeline writes would be lost:\n" + "\n".join(problems))


def warn_of_tracking(commands: Iterable[Sequence[str]], env: Sequence[str]) -> None:
    trained = [command for command in commands if command[0] in ("train", "tune")]
    if not all(
        any(word.startswith(("tracking.uri=", "--tracking-uri", "MLFLOW_TRACKING_URI")) for word in [*command, *env])
        for command in trained
    ):
        tell(
            "Unless the recipe or the cluster names a server for MLflow, this run is tracked in a file that is lost "
            "with the job's copy of --working-dir: --env MLFLOW_TRACKING_URI=http://HOST:5000, or tracking.uri=..."
        )


def stages_of(command: Sequence[str], working_dir: str) -> dict[str, list[str]]:
    """The commands that a pipeline stands for, by their places in its file.

    Raises:
        UserError: there is no such file in the working folder, or it has mistakes.
    """
    from pipelines.verbs import run  # with all that the verbs need
    from pipelines.verbs.commands import stage_command
    from pipelines.workflow.pipeline_file import read_pipeline

    with typer.main.get_command(run.app).make_context("rnncond run", list(command[1:])) as context:
        given = context.params
    plan = read_pipeline(
        str(Path(working_dir, given["pipeline"])), stage_command, given["overrides"] or (), given["out"]
    )
    stages = {f"stages.{stage.name}": [stage.verb, *stage.words] for stage in plan.stages}
    return {"the pipeline itself": ["run", f"--out={plan.out}"], **stages}


def runtime_environment(working_dir: str | None, install: bool, env: Sequence[str]) -> dict[str, Any]:
    """What Ray is to prepare for the job, on its nodes.

    Raises:
        UserError: a folder, file or variable is not there.
    """
    environment: dict[str, Any] = {}
    if working_dir is not None:
        if not Path(working_dir).is_dir():
            raise UserError(f"--working-dir: there is no folder {working_dir}.")
        environment |= {"working_dir": working_dir, "excludes": LEFT_OUT}
    if install:
        environment["pip"] = requirements(working_dir)
    if env:
        environment["env_vars"] = dict(variable(word) for word in env)
    return environment


def requirements(working_dir: str | None) -> list[str]:
    """What the project depends on, for pip. Ray itself is the cluster's; the project is run from its folder."""
    if working_dir is None or not is_project(Path(working_dir)):
        raise UserError("--install needs --working-dir FOLDER with this project: pyproject.toml, constraints.txt.")
    try:
        project = tomllib.loads((Path(working_dir) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        pins = (Path(working_dir) / "constraints.txt").read_bytes()
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--install: the project in {working_dir} cannot be read: {error}") from None
    direct = [line for line in project["dependencies"] if not re.match(r"ray\b", line)]
    # Ray keeps an installation under a hash of these lines: the comment makes other pins another one.
    return [f"# pins {hashlib.sha256(pins).hexdigest()[:16]}", f"--constraint {HOME}/constraints.txt", *direct]


def is_project(folder: Path) -> bool:
    return (folder / "pipelines" / "verbs" / "main.py").exists() and (folder / "pyproject.toml").exists()


def variable(word: str) -> tuple[str, str]:
    key, given, value = word.partition("=")
    if not given and key not in os.environ:
        raise UserError(f"--env {word}: there is no variable {key} here; say KEY=VALUE.")
    return key, value if given else os.environ[key]
