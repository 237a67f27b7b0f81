"""The nightly pipeline for Airflow and for Argo (examples/): every command is one of ours, and each exit code leads
where it should. Neither scheduler is installed: decorators that record stand in for Airflow's, and the workflow is held
to the types that Argo publishes."""

from __future__ import annotations

import ast
import copy
import json
import os
import re
import shlex
import subprocess
import sys
from datetime import datetime
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from pipelines.cli.commands import values_of
from pipelines.cli.submit import refuse_wrong
from tests.worlds.manifests import ROOT, containers, one, pods

AIRFLOW = ROOT / "examples" / "nightly_airflow.py"
ARGO = ROOT / "examples" / "nightly_argo.yaml"
VERBS = ["features", "caption", "report"]


def submitted(words: list[str]) -> dict[str, Any]:
    """The options of a `rnncond submit`, whose own command is right, too."""
    assert words[:2] == ["rnncond", "submit"]
    _, options = values_of(["submit", "start", *words[2:]])
    refuse_wrong(options["command"])
    assert options["retry"] > 0 and options["timeout"] > 0 and options["wait"] > 0 and options["name"]
    return options


def stub_rnncond(folder, code: int) -> str:
    """A PATH whose `rnncond` writes its words down and ends with ``code``."""
    program = folder / "rnncond"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {folder}/words\nexit {code}\n')
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


class Failed(Exception):
    """Airflow's AirflowFailException: no other try."""


@pytest.fixture
def night(monkeypatch):
    """The tasks of the DAG in their order, as callables; what `dag` and `task` were told; and the module."""
    ordered: list[Any] = []
    told: dict[str, Any] = {}

    class Task:
        def __init__(self, function: Any, words: tuple = (), **settings: Any) -> None:
            self.function, self.words, self.settings = function, words, settings

        def override(self, **settings: Any) -> Task:
            return Task(self.function, **self.settings, **settings)

        def __call__(self, *words: Any) -> Task:
            return Task(self.function, words, **self.settings)

        def __rshift__(self, other: Task) -> Task:
            ordered.extend(each for each in (self, other) if each not in ordered)
            return other

        def begin(self) -> None:
            self.function(*self.words, dag_run=SimpleNamespace(run_after=datetime(2026, 11, 28, 2)))

    sdk, exceptions = ModuleType("airflow.sdk"), ModuleType("airflow.sdk.exceptions")
    sdk.task = lambda **settings: lambda function: Task(function, **settings)
    sdk.dag = lambda **settings: lambda function: told.update(settings) or function
    exceptions.AirflowFailException = Failed
    for name, module in (("airflow", ModuleType("airflow")), ("airflow.sdk", sdk), (exceptions.__name__, exceptions)):
        monkeypatch.setitem(sys.modules, name, module)
    module = ModuleType("nightly_airflow")
    exec(compile(AIRFLOW.read_text(), AIRFLOW.name, "exec"), module.__dict__)
    return SimpleNamespace(tasks=ordered, told=told)


def test_the_dag_needs_nothing_but_airflow():
    tree = ast.parse(AIRFLOW.read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} | {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names} == {
        "airflow.sdk",
        "airflow.sdk.exceptions",
    }


def test_the_dag_runs_the_verbs_in_order_one_night_at_a_time(night, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", stub_rnncond(tmp_path, 0))
    assert [task.settings["task_id"] for task in night.tasks] == VERBS
    assert all(task.settings["retries"] for task in night.tasks)
    assert night.told["max_active_runs"] == 1 and night.told["catchup"] is False
    assert night.told["schedule"] == one("CronJob")["spec"]["schedule"]
    ids = []
    for task, verb in zip(night.tasks, VERBS, strict=True):
        (tmp_path / "words").unlink(missing_ok=True)
        task.begin()
        options = submitted(["rnncond", *(tmp_path / "words").read_text().splitlines()])
        assert options["command"][0] == verb
        ids.append(options["name"])
    # The same for every try of a task, and another for each task and night.
    assert ids == [f"{verb}-20261128-0200" for verb in VERBS]


@pytest.mark.parametrize(("code", "raised"), [(0, None), (3, None), (2, Failed), (4, RuntimeError), (1, RuntimeError)])
def test_the_dag_tries_again_what_may_pass(night, tmp_path, monkeypatch, code, raised):
    monkeypatch.setenv("PATH", stub_rnncond(tmp_path, code))
    if raised is None:
        night.tasks[0].begin()
    else:
        with pytest.raises(raised):
            night.tasks[0].begin()


@pytest.fixture(scope="module")
def argo() -> Draft202012Validator:
    """The schema of a CronWorkflow, as Argo 4.0.5 publishes it and hera has it; unknown fields are refused."""
    from hera.workflows.models import CronWorkflow

    schema = CronWorkflow.model_json_schema(by_alias=True)
    for kind in (schema, *schema["$defs"].values()):
        if "properties" in kind:
            kind.setdefault("additionalProperties", False)
    return Draft202012Validator(schema)


def workflow() -> dict:
    return yaml.safe_load(ARGO.read_text())


def test_argo_takes_the_workflow(argo):
    assert [error.message for error in argo.iter_errors(workflow())] == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: spec.update(schedule="0 2 * * *"), "'schedule' was unexpected"),
        (lambda spec: spec["workflowSpec"].update(entryPoint="nightly"), "'entryPoint' was unexpected"),
        (lambda spec: submit(spec)["retryStrategy"].update(limits=2), "'limits' was unexpected"),
        (lambda spec: submit(spec)["container"].update(args="words"), "'words' is not of type 'array'"),
        (lambda spec: spec.pop("workflowSpec"), "'workflowSpec' is a required property"),
    ],
)
def test_a_mistake_in_the_workflow_is_told(argo, change, told):
    damaged = copy.deepcopy(workflow())
    change(damaged["spec"])
    (error,) = argo.iter_errors(damaged)
    assert told in "\n".join(messages(error))


def messages(error: ValidationError) -> list[str]:
    """Of an error and of those that are its reasons, where one of several types was expected."""
    return [error.message, *(message for below in error.context or () for message in messages(below))]


def submit(spec: dict) -> dict:
    """The template of every step."""
    (template,) = [each for each in spec["workflowSpec"]["templates"] if each["name"] == "submit"]
    return template


def script(task: dict) -> str:
    """What the pod of a task runs, with Argo's parameters put in."""
    spec = workflow()["spec"]["workflowSpec"]
    (template,) = [template for template in spec["templates"] if template["name"] == task["template"]]
    known = {"workflow.name": "rnncond-nightly-1764295200"}
    known |= {f"workflow.parameters.{each['name']}": each["value"] for each in spec["arguments"]["parameters"]}
    known |= {
        f"inputs.parameters.{each['name']}": filled(each["value"], known) for each in task["arguments"]["parameters"]
    }
    wanted = {f"inputs.parameters.{each['name']}" for each in template["inputs"]["parameters"]}
    assert wanted == {name for name in known if name.startswith("inputs.")}
    assert template["container"]["command"] == ["bash", "-c"]
    return filled(template["container"]["args"][0], known)


def filled(text: str, known: dict[str, str]) -> str:
    return re.sub(r"\{\{([^}]+)\}\}", lambda match: known[match[1]], text)


def tasks() -> list[dict]:
    spec = workflow()["spec"]["workflowSpec"]
    (begin,) = [template for template in spec["templates"] if template["name"] == spec["entrypoint"]]
    return begin["dag"]["tasks"]


def test_the_workflow_runs_the_verbs_in_order_one_night_at_a_time():
    assert [task["name"] for task in tasks()] == VERBS
    assert [task.get("depends") for task in tasks()] == [None, *VERBS[:-1]]
    for task in tasks():
        options = submitted(shlex.split(script(task).partition("||")[0]))
        assert options["command"][0] == task["name"] and options["name"].endswith(f"-{task['name']}")
    spec, cron = workflow()["spec"], one("CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid" and spec["schedules"] == [cron["schedule"]]
    assert spec["timezone"] == cron["timeZone"]


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 0), (2, 2), (4, 4)])
def test_the_workflow_goes_on_after_inputs_that_fail(tmp_path, code, expected):
    environment = {"PATH": stub_rnncond(tmp_path, code)}
    assert subprocess.run(["bash", "-c", script(tasks()[0])], env=environment).returncode == expected
    assert "features" in (tmp_path / "words").read_text().splitlines()


def test_the_workflows_pods_are_as_locked_down_as_ours():
    spec = workflow()["spec"]["workflowSpec"]
    (container,) = [template["container"] for template in spec["templates"] if "container" in template]
    model = pods()["RayJob submitter"]
    assert spec["securityContext"] == model["spec"]["securityContext"]
    assert spec["podMetadata"]["labels"] == model["metadata"]["labels"]
    (of_model,) = containers(model["spec"])
    for field in ("image", "securityContext", "volumeMounts"):
        assert container[field] == of_model[field]
    assert spec["volumes"] == model["spec"]["volumes"]
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])


def test_both_do_the_same(night, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", stub_rnncond(tmp_path, 0))
    for task, step in zip(night.tasks, tasks(), strict=True):
        (tmp_path / "words").unlink(missing_ok=True)
        task.begin()
        of_airflow = submitted(["rnncond", *(tmp_path / "words").read_text().splitlines()])
        of_argo = submitted(shlex.split(script(step).partition("||")[0]))
        del of_airflow["name"], of_argo["name"]
        assert json.dumps(of_airflow) == json.dumps(of_argo)
