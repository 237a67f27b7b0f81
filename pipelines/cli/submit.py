"""The command line of ``rnncond submit``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer import Argument, Option
from typer.core import TyperGroup

from pipelines.cli import options
from pipelines.cli.commands import VERBS, values_of
from pipelines.config.spelling import instead_of
from pipelines.console import Outcome
from pipelines.errors import UserError


class Jobs(TyperGroup):
    """``start`` is meant where no other command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if not args or args[0] in known else ["start", *args])


app = options.application(
    cls=Jobs,
    help="Run a verb as a job on a Ray cluster: rnncond submit \\[OPTIONS] -- VERB ...",
    epilog="For example: rnncond submit --address http://head:8265 -- features s3://bucket/photos/ --store "
    "s3://bucket/store. The options are those of `rnncond submit start --help`.",
    no_args_is_help=True,
)

Address = Annotated[
    str | None,
    Option(
        help="address of the cluster's dashboard, http://HOST:8265 (default: RAY_API_SERVER_ADDRESS, or this machine)"
    ),
]
JobId = Annotated[str, Argument(metavar="ID", help="the job's id, which `rnncond submit` printed")]

EXAMPLES = """
Examples:

  rnncond submit --address http://head:8265 -- features s3://bucket/photos/ --store s3://bucket/store

  rnncond submit --working-dir . --id nightly-2026-11-23 --no-follow -- train recipe.yaml --out s3://bucket/runs/nightly

  rnncond submit --retry 3 --timeout 36000 --working-dir deploy -- run pipeline.yaml --address auto

  rnncond submit --working-dir . --install --env MLFLOW_TRACKING_URI -- caption ...
"""


@app.command(context_settings={"allow_interspersed_args": False}, epilog=EXAMPLES)
def start(
    command: Annotated[list[str], Argument(metavar="VERB", help="what follows `rnncond`")],
    address: Address = None,
    follow: Annotated[bool, Option(help="show the job's output, and end with its exit code")] = True,
    name: Annotated[
        str | None, Option("--id", help="the job's id: with the same id a command is started only once")
    ] = None,
    working_dir: Annotated[
        str | None, Option(help="a folder (without data) that is copied to the cluster, for the job to run in")
    ] = None,
    install: Annotated[
        bool,
        Option("--install", help="install what the project in --working-dir depends on, pinned by its constraints.txt"),
    ] = False,
    env: Annotated[list[str] | None, Option(help="KEY=VALUE, or KEY with its value here; repeatable")] = None,
    cpus: Annotated[float, Option(min=0, help="CPUs of the command itself; with 0 it runs on the head")] = 0,
    gpus: Annotated[float, Option(min=0, help="GPUs of the command itself, as for `evaluate`")] = 0,
    retry: Annotated[
        int,
        Option(min=0, help="start it so many times again where a fault breaks it off: exit code 4, or a lost driver"),
    ] = 0,
    timeout: Annotated[float | None, Option(min=0, help="seconds after which the job is stopped, exit code 4")] = None,
    wait: Annotated[float, Option(min=0, help="seconds to wait for the dashboard of a cluster that comes up")] = 0,
) -> Outcome:
    """Run a verb as a job. A job that is followed ends this command with its own exit code."""
    refuse_wrong(command)
    if working_dir is not None:
        from pipelines.cli import job_outputs

        job_outputs.check(command, working_dir, env or ())
    from pipelines.verbs import submit

    return submit.start(
        command, address, follow, name, working_dir, install, env or (), cpus, gpus, retry, timeout, wait
    )


@app.command()
def status(job: JobId, address: Address = None) -> Outcome:
    """Show what a job is, and how it ended."""
    from pipelines.verbs import submit

    return submit.status(job, address)


@app.command()
def logs(
    job: JobId,
    address: Address = None,
    follow: Annotated[bool, Option("--follow", help="until the job ends, and end with its exit code")] = False,
) -> Outcome:
    """Show what a job has printed so far."""
    from pipelines.verbs import submit

    return submit.logs(job, address, follow)


@app.command()
def stop(job: JobId, address: Address = None) -> Outcome:
    """End a job. What it has committed is kept, and the same command resumes from there."""
    from pipelines.verbs import submit

    return submit.stop(job, address)


@app.command(name="list")
def list_jobs(address: Address = None) -> Outcome:
    """List the cluster's jobs, the newest first."""
    from pipelines.verbs import submit

    return submit.list_jobs(address)


def refuse_wrong(command: Sequence[str]) -> None:
    """Refuse a command line that the job would refuse, before anything is sent.

    Raises:
        UserError: what is wrong with it.
    """
    verbs = [verb for verb in VERBS if verb != "submit"]
    if command[0] not in verbs:
        hint = instead_of(command[0], verbs)
        if command[0] in getattr(typer.main.get_command(app), "commands", {}):
            hint = f" To ask for a job, put the options behind: rnncond submit {command[0]} ID --address URL."
        raise UserError(f"There is no verb {command[0]!r} to submit.{hint}")
    values_of(command)
