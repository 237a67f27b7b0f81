"""The command as its user meets it: verbs, help, exit codes, the last line under --json."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from pipelines import console, errors
from pipelines.cli import main
from pipelines.cli.commands import VERBS, app_of
from pipelines.console import Outcome
from pipelines.errors import Fault, UserError


def rnncond(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "pipelines.cli.main", *arguments], capture_output=True, text=True)


def app_that(outcome) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def command(number: int = 1):
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return app


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_examples(verb, capsys):
    app = app_of(verb)
    assert main.run(app, f"rnncond {verb}", ["--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"rnncond {verb}") >= 2, "a usage line and at least one example"
    assert "--json" in shown


def test_the_verbs_are_listed_without_importing_any():
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pipelines.cli.main"], capture_output=True, text=True, check=True
    )
    assert all(verb in shown.stdout for verb in VERBS)
    imported = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert not imported & {"ray", "torch", "mlflow"}


@pytest.mark.heavy
def test_a_reader_that_stops_early_is_no_mistake():
    command = f"{sys.executable} -m pipelines.cli.main recipes show show_tell.small | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    first, code = done.stdout.splitlines()
    assert first == "system = show_tell"
    assert code in ("0", "141"), "0 where all fits into the pipe before it is closed"
    assert done.stderr == ""


def test_threads_that_are_left_do_not_keep_the_command():
    left = "import sys, threading, time; threading.Thread(target=time.sleep, args=(3600,)).start()"
    command = f"{left}; from pipelines.cli import main; sys.argv = ['rnncond', {{!r}}]; main.start()"
    for word, code in (("--version", 0), ("fetaures", 2)):
        done = subprocess.run([sys.executable, "-c", command.format(word)], capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr
        assert "rnncond" in done.stdout or "Did you mean" in done.stderr


def test_results_go_to_standard_output_and_the_rest_to_standard_error(capsys):
    outcome = Outcome({"rows": 3}, failed=1, failures=["a.jpg: read: no such file"], hint="Next: rnncond report s")
    assert main.run(app_that(outcome), "rnncond test", []) == 3
    shown = capsys.readouterr()
    assert shown.err == "" and "rows  3" in shown.out and "a.jpg: read" in shown.out and "Next: " in shown.out
    assert main.run(app_that(outcome), "rnncond test", ["--json"]) == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"rows": 3, "failed": 1} and "rows  3" in shown.err


def test_its_version():
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
    assert rnncond("--version").stdout == f"rnncond {project['version']}\n"


def test_a_misspelt_verb_is_told_the_nearest():
    told = rnncond("fetaures")
    assert told.returncode == 2
    assert "Did you mean 'features'?" in told.stderr
    assert "Traceback" not in told.stderr


def test_standard_output_has_the_line_of_json_alone_whatever_a_library_prints(capsys):
    app = typer.Typer()

    @app.command()
    def verb():
        print("(raylet) Task x failed.")
        return Outcome({"images": 3})

    assert main.run(app, "rnncond x", ["--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"images": 3, "failed": 0}
    assert "(raylet) Task x failed." in shown.err


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "yes"), (False, "no"), (0, "0"), (1234567, "1,234,567"), (12345.6, "12,346"), (1234.56, "1,235"),
        (999.96, "1,000"), (23.4567, "23.46"), (-0.5, "-0.5"), (0.000123456, "0.0001235"), (1e9, "1,000,000,000"),
        (float("inf"), "inf"), (None, "None"), ("runs/a", "runs/a"),
    ],
)  # fmt: skip
def test_values_of_a_summary_are_read_easily(value, shown, capsys):
    console.show(Outcome({"value": value}))
    assert capsys.readouterr().out == f"  value  {shown}\n"


def test_a_mistake_is_one_message_and_a_defect_is_not_hidden(capsys):
    assert main.run(app_that(UserError("found 3, expected 2")), "rnncond x", ["--json"]) == 2
    shown = capsys.readouterr()
    assert "found 3, expected 2" in shown.err
    assert json.loads(shown.out) == {"error": "found 3, expected 2"}
    assert main.run(app_that(None), "rnncond x", ["--number", "many"]) == 2
    assert "'--number'" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        main.run(app_that(ZeroDivisionError()), "rnncond x", [])


def test_a_fault_has_an_exit_code_that_tells_a_scheduler_to_try_again(capsys):
    class TaskError(Exception):
        cause = Fault("a process has died")  # where Ray keeps it

    for error in (Fault("a process has died"), TaskError()):
        assert main.run(app_that(error), "rnncond x", []) == 4
        assert "a process has died" in capsys.readouterr().err


def raised(by) -> Exception:
    try:
        by()
    except Exception as error:
        return error


def test_what_goes_wrong_while_a_mistake_is_handled_is_a_defect():
    def cleaning_up():
        try:
            raise UserError("found 3, expected 2")
        finally:
            {}["file"]

    def translating():
        try:
            raise UserError("found 3, expected 2")
        except UserError:
            raise KeyError("file") from None

    def wrapping():
        try:
            raise UserError("found 3, expected 2")
        except UserError as error:
            raise RuntimeError("a task failed") from error

    class TaskError(Exception):
        cause = UserError("found 3, expected 2")  # where Ray keeps it

    assert errors.user_message(raised(cleaning_up)) is None
    assert errors.user_message(raised(translating)) is None
    assert errors.user_message(raised(wrapping)) == "found 3, expected 2"
    assert errors.user_message(TaskError()) == "found 3, expected 2"


HELP = """
import contextlib, io, json, sys
from pipelines.cli import main
for words in json.loads(sys.argv[1]):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        try:
            main.main(words)
        except SystemExit as ended:
            code = ended.code
    heavy = sorted({"torch", "ray", "mlflow", "pandas", "pyarrow", "numpy"} & set(sys.modules))
    print(json.dumps([words, code, "rnncond" in shown.getvalue(), heavy]))
"""


@pytest.mark.heavy
def test_no_help_loads_what_is_slow_to_load():
    """One process for all: what one help loads, those after it have, too."""
    commands = {verb: getattr(typer.main.get_command(app_of(verb)), "commands", {}) for verb in VERBS}
    words = [["--help"], ["-h"], *([verb, "--help"] for verb in VERBS), *([verb, "-h"] for verb in VERBS)]
    words += [[verb, name, "-h"] for verb, below in commands.items() for name in below]
    assert len(words) > 30
    done = subprocess.run([sys.executable, "-c", HELP, json.dumps(words)], capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[each, 0, True, []] for each in words]
