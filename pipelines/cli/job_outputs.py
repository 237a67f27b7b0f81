"""Outputs that a job would write into its copy of the working folder, which Ray deletes, are refused beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipelines.cli.commands import outputs_of, stage_command, values_of
from pipelines.console import tell
from pipelines.errors import UserError

LOST = "in the job's own copy of --working-dir, and be lost with it"


def check(command: Sequence[str], working_dir: str, env: Sequence[str]) -> None:
    """Check the command of a job that runs in a copy of ``working_dir``, and of a pipeline every stage.

    Raises:
        UserError: something that it writes would be lost.
    """
    refuse_lost(command)
    stages = stages_of(command, working_dir) if command[0] == "run" else {}
    problems = []
    for place, words in stages.items():
        try:
            refuse_lost(words)
        except UserError as error:
            problems.append(f"  {place}: {error}")
    if problems:
        raise UserError("What the pipeline writes would be lost:\n" + "\n".join(problems))
    warn_of_tracking([command, *stages.values()], env)


def refuse_lost(words: Sequence[str]) -> None:
    """
    Raises:
        UserError: an output of this command line would lie in the working folder.
    """
    parser, values = values_of(words)
    spelled = {param.name: param.opts[0] for param in parser.params}
    for name, output in outputs_of(parser).items():
        value, option = values[name], spelled[name]
        if value is not None:
            if not value.startswith("/") and (output.local or "://" not in value):
                elsewhere = "" if output.local else ", or s3:// or gs://"
                raise UserError(f"{option}: found {value}, which would lie {LOST}. Expected is an absolute "
                                f"path{elsewhere}.")  # fmt: skip
        elif output.by_default == "here":
            raise UserError(
                f"{option} is missing: {words[0]} would write {LOST.replace(', and be', ' and be')}. Expected is "
                f"{option} with an absolute path."
            )
        for beside in output.beside if value is None else ():
            place = values[beside]
            if place is not None and not place.startswith(("/", "runs:", "models:")) and "://" not in place:
                raise UserError(
                    f"{spelled[beside]}: found {place}, and the results would lie beside it, {LOST}. Expected is "
                    f"{option} with an absolute path."
                )


def stages_of(command: Sequence[str], working_dir: str) -> Mapping[str, Sequence[str]]:
    """The commands that a pipeline stands for, by their places in its file.

    Raises:
        UserError: there is no such file in the working folder, or it has mistakes.
    """
    from pipelines.workflow.pipeline_file import read_pipeline

    _, given = values_of(command)
    path = str(Path(working_dir, given["pipeline"]))
    plan = read_pipeline(path, stage_command, given["overrides"] or (), given["out"])
    stages = {f"stages.{stage.name}": [*stage.verb.split(), *stage.words] for stage in plan.stages}
    return {"the pipeline itself": ["run", f"--out={plan.out}", path], **stages}


def warn_of_tracking(commands: Iterable[Sequence[str]], env: Sequence[str]) -> None:
    """Warn where a training names no MLflow server: its default, a file, would lie in the working folder."""
    named = ("tracking.uri=", "--tracking-uri", "MLFLOW_TRACKING_URI")
    trainings = [command for command in commands if command[0] in ("train", "tune")]
    if not all(any(word.startswith(named) for word in [*command, *env]) for command in trainings):
        tell(
            "Unless the recipe or the cluster names an MLflow server, this run is tracked in a file that is lost "
            "with the job's copy of --working-dir: --env MLFLOW_TRACKING_URI=http://HOST:5000, or tracking.uri=..."
        )
