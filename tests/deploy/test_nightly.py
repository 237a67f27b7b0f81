"""The pipeline of every night: what runs it, what it may do, and how it ends."""

from __future__ import annotations

import copy
import http.server
import importlib.util
import json
import os
import shlex
import subprocess
import threading
from typing import Any

import pytest

from pipelines.cli.commands import VERBS, app_of, stage_command
from pipelines.workflow.pipeline_file import read_pipeline
from tests.worlds.manifests import ROOT, one


def test_the_night_may_do_what_it_does_and_nothing_more():
    role, cron = one("Role"), one("CronJob")["spec"]
    pod = cron["jobTemplate"]["spec"]["template"]["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    assert pod["serviceAccountName"] == one("ServiceAccount")["metadata"]["name"]
    assert one("RoleBinding")["subjects"][0]["name"] == pod["serviceAccountName"]
    assert one("RoleBinding")["roleRef"]["name"] == role["metadata"]["name"]
    # It could not delete a job of somebody's, whatever it tried.
    assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["get", "create"]}]
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    assert container["command"] == ["python", f"{mount['mountPath']}/nightly.py"]
    assert (ROOT / "deploy/kuberay/nightly.py").exists()
    assert {each["name"] for each in container["env"]} == {"JOB_NAME", "JOB_UID"}


class Kubernetes(http.server.BaseHTTPRequestHandler):
    """The part of the API server that the nightly job asks: RayJobs by name, which go through ``states``."""

    def answer(self, code: int, body: dict) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_POST(self):
        assert self.headers["Authorization"] == "Bearer secret"
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = job["metadata"]["name"]
        if name in self.server.jobs:
            return self.answer(409, {"reason": "AlreadyExists"})
        self.server.jobs[name] = job
        self.answer(201, job)

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        state = self.server.states.pop(0) if len(self.server.states) > 1 else self.server.states[0]
        if isinstance(state, int):
            return self.answer(state, {})
        self.answer(200, {**self.server.jobs[name], "status": state})

    def log_message(self, *args):
        pass


@pytest.fixture
def night(tmp_path, monkeypatch):
    """A function that runs the nightly job against an API server with ``states``, for a Job called ``name``; it gives
    back the RayJobs that are there afterwards and how it ended."""
    spec = importlib.util.spec_from_file_location("nightly", ROOT / "deploy/kuberay/nightly.py")
    nightly = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nightly)
    (tmp_path / "token").write_text("secret")
    (tmp_path / "namespace").write_text("pictures\n")
    monkeypatch.setattr(nightly, "ACCOUNT", tmp_path)
    monkeypatch.setattr(nightly, "SECONDS_BETWEEN", 0)
    monkeypatch.setenv("JOB_UID", "1-2-3")
    server = http.server.HTTPServer(("127.0.0.1", 0), Kubernetes)
    server.jobs = {}
    monkeypatch.setattr(nightly, "api", lambda: f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(states: list, name: str = "rnncond-nightly-29") -> tuple[dict, Any]:
        monkeypatch.setenv("JOB_NAME", name)
        server.states = states
        try:
            nightly.main()
        except SystemExit as end:
            return server.jobs, end.code
        return server.jobs, 0

    yield run
    server.shutdown()
    server.server_close()


SUCCEEDED = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}


def test_a_night_starts_a_job_of_its_own_and_waits_for_it(night):
    jobs, end = night([{}, {"jobDeploymentStatus": "Running"}, 500, {"jobDeploymentStatus": "Retrying"}, SUCCEEDED])
    (job,) = jobs.values()
    assert end == 0 and job["spec"] == one("RayJob")["spec"]
    assert job["metadata"]["name"] == "rnncond-nightly-29"
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "rnncond-nightly-29", "uid": "1-2-3"}
    assert job["metadata"]["ownerReferences"] == [owner]


def test_a_night_leaves_other_jobs_alone_and_a_new_pod_waits_on(night):
    manual = one("RayJob")["metadata"]["name"]
    jobs, _ = night([SUCCEEDED], manual)  # as one that somebody started from the file would be called
    before = copy.deepcopy(jobs)
    jobs, end = night([SUCCEEDED])
    assert end == 0 and set(jobs) == {manual, "rnncond-nightly-29"} and jobs[manual] == before[manual]
    assert night([SUCCEEDED]) == (jobs, 0), "the second pod of a Job"
    assert len(jobs) == 2


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": "exit code 2"}, "FAILED, exit code 2"),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, "DeadlineExceeded"),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, "STOPPED"),
        (403, "403"),
        (404, "404"),
    ],
)
def test_a_night_that_failed_fails(night, state, told):
    assert told in night([state])[1]


def test_the_jobs_command_is_one_of_ours():
    shell, option, script = shlex.split(one("RayJob")["spec"]["entrypoint"])
    assert (shell, option) == ("bash", "-c")
    words = shlex.split(script.partition("||")[0])
    assert words[:3] == ["rnncond", "run", "/etc/rnncond/pipeline.yaml"] and words[1] in VERBS
    from typer.main import get_command

    known = {option for parameter in get_command(app_of("run")).params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_kuberays_own_schedule_does_the_same_job_and_leaves_nothing_behind():
    job, template = copy.deepcopy(one("RayJob")["spec"]), copy.deepcopy(one("RayCronJob")["spec"]["jobTemplate"])
    rules = template.pop("deletionStrategy")["deletionRules"]
    # KubeRay refuses the two in one job.
    assert job.pop("shutdownAfterJobFinishes") is True
    after = job.pop("ttlSecondsAfterFinished")
    assert template == job
    for condition in ({"jobStatus": "SUCCEEDED"}, {"jobDeploymentStatus": "Failed"}):
        seconds = {
            rule["policy"]: rule["condition"]["ttlSeconds"]
            for rule in rules
            if rule["condition"] == {**condition, "ttlSeconds": rule["condition"]["ttlSeconds"]}
        }
        assert seconds["DeleteCluster"] == after < seconds["DeleteSelf"]
    assert one("RayCronJob")["spec"]["schedule"] == one("CronJob")["spec"]["schedule"]


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 0), (2, 2), (1, 1), (137, 137)])
def test_inputs_that_fail_do_not_fail_the_night(tmp_path, code, expected):
    """KubeRay puts the entrypoint into a line for its shell, `ray job submit -- ENTRYPOINT`, and Ray joins the words
    that come of it for another shell."""
    verb = tmp_path / "rnncond"
    verb.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nexit {code}\n')
    verb.chmod(0o755)
    joined = shlex.join(shlex.split(one("RayJob")["spec"]["entrypoint"]))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert subprocess.run(joined, shell=True, env=environment).returncode == expected
    assert (tmp_path / "said").read_text() == "run /etc/rnncond/pipeline.yaml --address auto\n"


def test_the_pipeline_is_one():
    found = read_pipeline(str(ROOT / "deploy" / "pipeline.yaml"), stage_command)
    assert [stage.verb for stage in found.stages] == ["features", "train", "evaluate", "promote", "caption"]
    outputs = [stage.args["store" if stage.verb == "features" else "out"]
               for stage in found.stages if stage.verb not in ("evaluate", "promote")]  # fmt: skip
    assert all(out.startswith("s3://") for out in [*outputs, found.out]), "what outlives a cluster"
    read = [value for stage in found.stages for value in stage.words if "captions.jsonl" in value]
    assert read and all("s3://bucket/captions.jsonl" in value for value in read), "which every cluster can read"
