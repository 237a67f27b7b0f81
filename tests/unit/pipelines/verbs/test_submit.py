"""``rnncond submit`` before it meets a server, and against what is none; test_submit_head has a real one."""

from __future__ import annotations

import re
import socket

import pytest

from pipelines.cli import job_outputs
from pipelines.cluster import jobs
from pipelines.cluster.jobs import Server, UnknownHost
from pipelines.errors import Fault
from pipelines.verbs import submit
from tests.worlds.command import rnncond
from tests.worlds.jobs import Job


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0)
    for name in jobs.ADDRESSES:
        monkeypatch.delenv(name, raising=False)


def rnncond_submit(*words: str) -> int:
    return rnncond("submit", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--", "fetaures", "x"], "no verb 'fetaures' to submit.*'features'"),
        (["submit", "features"], "no verb 'submit' to submit"),
        (["--address", "http://h:1", "logs", "one"], "rnncond submit logs ID --address URL"),
        (["--working-dir", "no/where", "--", "store", "info", "s"], "no folder no/where"),
        (["--install", "--", "store", "info", "s"], "--install needs --working-dir"),
        (["--env", "NOT_SET_HERE", "--", "store", "info", "s"], "no variable NOT_SET_HERE"),
        (
            ["--env", "MLFLOW_TRACKING_URI=http://user:pw@host", "--", "store", "info", "s"],
            r"--env MLFLOW_TRACKING_URI: found http://\S*@host.*password",
        ),
        (["--retry", "1", "--no-follow", "--", "store", "info", "s"], "--retry and --timeout need .* --no-follow"),
        (["--working-dir", ".", "--", "train", "r.yaml"], "--out is missing: train would"),
        (["--working-dir", ".", "--", "train", "r.yaml", "--out=runs/a"], "--out: found runs/a.*absolute"),
        (["--working-dir", ".", "--", "features", "p", "--store", "store"], "--store: found store"),
        (
            ["--working-dir", ".", "--", "caption", "p", "--model=m", "--out=/o", "--keep-features=kept"],
            "--keep-features: found kept",
        ),
        (["--working-dir", ".", "--", "report", "/run", "--to=s3://b/p.html"], "--to: found s3://b.*absolute path\\."),
        (["--working-dir", ".", "--", "evaluate", "--model=runs/a"], "--model: found runs/a.*--out with an absolute"),
        (["--working-dir", ".", "--", "evaluate", "--translations", "said"], "--translations: found said.*--out"),
        (["--working-dir", ".", "--", "report", "runs/a"], "out: found runs/a.*--to with an absolute"),
        (["--working-dir", ".", "--", "demo"], "--out: found demo, which would lie"),
        (["--", "train"], "Missing argument"),
        (["--address", "ray://h:10001", "--", "store", "info", "s"], "found ray://h:10001; expected.*dashboard"),
        (["status"], "Missing argument"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(words, message, capsys):
    assert rnncond_submit(*words) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(message, told), told


def test_a_dashboard_that_is_away_may_come_back(capsys):
    assert rnncond_submit("--address", "127.0.0.1:1", "--", "store", "info", "s") == 4
    assert "no Ray dashboard answers at http://127.0.0.1:1" in " ".join(capsys.readouterr().err.split())
    assert rnncond_submit("--address", "nowhere.invalid:1", "--", "store", "info", "s") == 2


def test_only_what_a_job_writes_must_outlive_its_folder():
    job_outputs.refuse_lost(["caption", "--store", "features", "--model", "runs/a", "--out", "/shared/captions"])
    job_outputs.refuse_lost(["train", "recipe.yaml", "--out=/shared/run", "data.store=features"])
    job_outputs.refuse_lost(["features", "photos.csv", "--store", "s3://bucket/store"])
    job_outputs.refuse_lost(["caption", "photos", "--model", "runs/a", "--out", "s3://bucket/captions"])
    job_outputs.refuse_lost(["train", "recipe.yaml", "--out=s3://bucket/run"])
    job_outputs.refuse_lost(["store", "verify", "features"])
    job_outputs.refuse_lost(["evaluate", "--model", "runs/a", "--out=/shared/scores"])
    job_outputs.refuse_lost(["evaluate", "--model", "/shared/run"])
    job_outputs.refuse_lost(["evaluate", "--model", "models:/m@champion", "--data", "captions.jsonl"])
    job_outputs.refuse_lost(["evaluate", "--hypotheses", "said.txt", "--references", "test.de"])


PIPELINE = """
out: {out}
variables: {{runs: /shared}}
stages:
  features: {{args: {{images: photos, store: {store}, backbone: timm/resnet50}}}}
  train: {{args: {{recipe: show_tell.small, overrides: {{tracking.uri: http://h}}, out: "${{runs}}/run"}}}}
  caption: {{args: {{images: more, model: "${{train.out}}", out: s3://b/said, keep_features: {kept}}}}}
  report: {{args: {{out: "${{caption.out}}", to: {page}}}}}
"""
SAFE = {"out": "/shared/p", "store": "s3://b/store", "kept": "/shared/kept", "page": "/shared/report.html"}


@pytest.mark.parametrize(
    ("values", "words", "lost"),
    [
        (SAFE, [], []),
        (SAFE | {"out": "nightly"}, [], ["the pipeline itself: --out: found nightly"]),
        (SAFE | {"out": "nightly"}, ["--out", "/shared/q"], []),
        (SAFE, ["runs=mine"], ["stages.train: --out: found mine/run"]),
        (SAFE | {"store": "store", "kept": "kept"}, [], ["stages.features: --store: found store",
                                                         "stages.caption: --keep-features: found kept"]),
        (SAFE | {"page": "report.html"}, [], ["stages.report: --to: found report.html"]),
    ],
)  # fmt: skip
def test_what_a_pipeline_writes_must_outlive_the_jobs_folder(tmp_path, monkeypatch, capsys, values, words, lost):
    (tmp_path / "sent" / "jobs").mkdir(parents=True)
    (tmp_path / "sent" / "jobs" / "p.yaml").write_text(PIPELINE.format(**values))
    monkeypatch.chdir(tmp_path)  # the file's name is what the job sees in its folder, not what there is here
    refused = ["--address", "127.0.0.1:1", "--working-dir", "sent", "--", "run", "jobs/p.yaml", *words]
    assert rnncond_submit(*refused) == (2 if lost else 4)
    told = capsys.readouterr().err
    assert [place for place in lost if f"\n  {place}, which would lie" in told] == lost
    assert told.count("which would lie") == len(lost)
    assert ("no Ray dashboard answers" in told) == (not lost)


def test_a_pipeline_without_a_folder_or_that_is_not_sent_is_refused(tmp_path, capsys):
    (tmp_path / "p.yaml").write_text("stages: {store: {verb: store verify, args: {directory: s3://b/store}}}")
    assert rnncond_submit("--working-dir", str(tmp_path), "--", "run", "p.yaml") == 2
    assert "the pipeline itself: --out: found pipeline, which would lie" in capsys.readouterr().err
    assert rnncond_submit("--working-dir", str(tmp_path), "--", "run", "q.yaml") == 2
    assert f"There is no pipeline {tmp_path}/q.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("told", ["tracking.uri=http://h", "--tracking-uri=http://h", ""])
def test_training_that_is_tracked_nowhere_is_told_of(told, capsys):
    stage = ["train", "--out=/shared/run", *([told] if told else []), "show_tell.small"]
    job_outputs.warn_of_tracking([["run", "p.yaml"], stage], [])
    assert ("is tracked in a file that is lost" in capsys.readouterr().err) == (not told)


class Faults:
    """A job server whose jobs end with ``codes``, one after the other; one of None has no end."""

    def __init__(self, *codes: int | None) -> None:
        self.codes, self.jobs = list(codes), {}

    def submit_job(self, entrypoint, submission_id, **_):
        code = self.codes.pop(0)
        status = "RUNNING" if code is None else "FAILED" if code else "SUCCEEDED"
        self.jobs[submission_id] = Job(status, code, entrypoint)

    def get_job_info(self, job):
        return self.jobs[job]

    async def tail_job_logs(self, job):
        yield ""

    def stop_job(self, job):
        self.jobs[job] = Job("STOPPED")


@pytest.mark.parametrize(
    ("codes", "retry", "started", "code"),
    [
        ([4, -9, 0], 3, ["j", "j-2", "j-3"], 0),
        ([4, 4], 1, ["j", "j-2"], 4),
        ([2], 3, ["j"], 2),
        ([-15], 3, ["j"], 143),
        ([3], 3, ["j"], 3),
        ([4], 0, ["j"], 4),
    ],
)
def test_what_a_fault_breaks_off_is_started_again(codes, retry, started, code, monkeypatch):
    client = Faults(*codes)
    monkeypatch.setattr(Server, "at", lambda address: Server("http://head:8265", client))
    outcome = submit.start(["store", "info", "s"], job="j", retry=retry)
    assert (list(client.jobs), outcome.code or 0) == (started, code)


def test_a_job_that_takes_too_long_is_stopped(monkeypatch):
    client = Faults(None)
    monkeypatch.setattr(Server, "at", lambda address: Server("http://head:8265", client))
    with pytest.raises(Fault, match=r"job j has not ended within 0.05 seconds \(--timeout\), and was stopped"):
        submit.start(["store", "info", "s"], job="j", timeout=0.05)
    assert client.jobs["j"].status == jobs.JobStatus.STOPPED


def test_a_cluster_that_comes_up_is_waited_for(monkeypatch):
    answers = [Fault("away"), Fault("away"), Server("http://head:8265", Faults(0))]

    def at(address):
        answer = answers.pop(0)
        if isinstance(answer, Fault):
            raise answer
        return answer

    monkeypatch.setattr(Server, "at", at)
    monkeypatch.setattr(submit, "POLL_SECONDS", 0)
    assert submit.start(["store", "info", "s"], job="j", wait=60).summary["status"] == "SUCCEEDED"
    answers[:] = [Fault("away")] * 2
    with pytest.raises(Fault, match="away"):
        submit.start(["store", "info", "s"], job="j", wait=0)


def test_a_cluster_whose_name_comes_with_it_is_waited_for(monkeypatch):
    """As in Kubernetes, whose DNS knows a service once it is made."""
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    answers = [unknown, unknown, KeyError("here it would be")]

    def resolve(*_, **__):
        raise answers.pop(0)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(submit, "POLL_SECONDS", 0)
    with pytest.raises(KeyError, match="here it would be"):
        submit.reach("head:8265", 60)
    answers.append(unknown)
    with pytest.raises(UnknownHost, match=r"no Ray dashboard answers at http://head:8265.*not known"):
        submit.reach("head:8265", 0)


def test_requirements_are_the_projects_pinned_and_another_installation_for_other_pins(tmp_path):
    (tmp_path / "pipelines" / "cli").mkdir(parents=True)
    (tmp_path / "pipelines" / "cli" / "main.py").touch()
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["ray[data]>=2", "torch>=2", "rayon"]\n')
    (tmp_path / "constraints.txt").write_text("torch==2.1\n")
    first = submit.runtime_environment(str(tmp_path), True, ["A=b=c"])
    assert first["env_vars"] == {"A": "b=c"}
    pins, *lines = first["pip"]
    assert pins.startswith("# pins ")
    assert lines == ["--constraint ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt", "torch>=2", "rayon"]
    (tmp_path / "constraints.txt").write_text("torch==2.2\n")
    assert submit.runtime_environment(str(tmp_path), True, [])["pip"][0] != pins
