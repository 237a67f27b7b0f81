"""deploy/: every field is one that Kubernetes, KubeRay or the Prometheus operator knows, and all files agree with one
another and with the project. The tables have the fields in use, from the published types (KubeRay's ray.io/v1, of which
``authOptions`` needs 1.6); a field that is not in them is misspelt, or is to be looked up and added."""

from __future__ import annotations

import copy
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.verbs.commands import stage_command
from pipelines.verbs.main import VERBS
from pipelines.workflow.pipeline_file import read_pipeline

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "deploy" / "kuberay").glob("*.yaml"))

TEXT, NUMBER, YES, ANY = str, int, bool, object
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[KMGT]i)?")
NAMES = {"...": TEXT}
"""Keys of the user's own."""
META = {"name": TEXT, "labels": NAMES, "annotations": NAMES}
AMOUNTS = {"...": QUANTITY}
RESOURCES = {"requests": AMOUNTS, "limits": AMOUNTS}
REFERENCE = {"name": TEXT, "optional": YES}
CONTAINER = {
    "name": TEXT, "image": TEXT, "command": [TEXT], "args": [TEXT], "resources": RESOURCES,
    "ports": [{"name": TEXT, "containerPort": NUMBER}],
    "env": [{"name": TEXT, "value": TEXT}],
    "envFrom": [{"configMapRef": REFERENCE, "secretRef": REFERENCE}],
    "volumeMounts": [{"name": TEXT, "mountPath": TEXT, "readOnly": YES}],
    "readinessProbe": {"httpGet": {"path": TEXT, "port": TEXT}},
}  # fmt: skip
POD = {
    "containers": [CONTAINER], "initContainers": [CONTAINER], "serviceAccountName": TEXT,
    "restartPolicy": {"Never", "OnFailure", "Always"}, "terminationGracePeriodSeconds": NUMBER,
    "securityContext": {"runAsNonRoot": YES, "runAsUser": NUMBER, "fsGroup": NUMBER},
    "tolerations": [{"key": TEXT, "operator": {"Exists", "Equal"}, "value": TEXT,
                     "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"}}],
    "volumes": [{"name": TEXT, "emptyDir": {"medium": {"", "Memory"}, "sizeLimit": QUANTITY},
                 "persistentVolumeClaim": {"claimName": TEXT}, "configMap": REFERENCE}],
}  # fmt: skip
TEMPLATE = {"metadata": META, "spec": POD}
GROUP = {"rayStartParams": NAMES, "template": TEMPLATE}
CLUSTER = {
    "rayVersion": TEXT, "authOptions": {"mode": {"token", "disabled"}}, "enableInTreeAutoscaling": YES,
    "autoscalerOptions": {"upscalingMode": {"Default", "Aggressive", "Conservative"}, "idleTimeoutSeconds": NUMBER,
                          "resources": RESOURCES},
    "headGroupSpec": {**GROUP, "serviceType": {"ClusterIP", "NodePort", "LoadBalancer"}},
    "workerGroupSpecs": [{**GROUP, "groupName": TEXT, "replicas": NUMBER, "minReplicas": NUMBER,
                          "maxReplicas": NUMBER}],
}  # fmt: skip
KINDS: dict[tuple[str, str], dict] = {
    ("v1", "ConfigMap"): {"data": NAMES},
    ("v1", "PersistentVolumeClaim"): {
        "spec": {"accessModes": [{"ReadWriteOnce", "ReadWriteMany"}], "resources": RESOURCES}
    },
    ("v1", "ServiceAccount"): {},
    ("v1", "Service"): {
        "spec": {"selector": NAMES, "ports": [{"name": TEXT, "port": NUMBER, "targetPort": TEXT}]}
    },
    ("apps/v1", "Deployment"): {
        "spec": {"replicas": NUMBER, "strategy": {"type": {"Recreate", "RollingUpdate"}},
                 "selector": {"matchLabels": NAMES}, "template": TEMPLATE}
    },
    ("rbac.authorization.k8s.io/v1", "Role"): {
        "rules": [{"apiGroups": [TEXT], "resources": [TEXT],
                   "verbs": [{"get", "list", "watch", "create", "update", "patch", "delete"}]}]
    },
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): {
        "roleRef": {"apiGroup": TEXT, "kind": TEXT, "name": TEXT}, "subjects": [{"kind": TEXT, "name": TEXT}]
    },
    ("batch/v1", "CronJob"): {
        "spec": {"schedule": TEXT, "timeZone": TEXT, "concurrencyPolicy": {"Allow", "Forbid", "Replace"},
                 "startingDeadlineSeconds": NUMBER, "successfulJobsHistoryLimit": NUMBER,
                 "failedJobsHistoryLimit": NUMBER,
                 "jobTemplate": {"spec": {"backoffLimit": NUMBER, "template": TEMPLATE}}}
    },
    ("ray.io/v1", "RayCluster"): {"spec": CLUSTER},
    ("ray.io/v1", "RayJob"): {
        "spec": {"entrypoint": TEXT, "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode"},
                 "backoffLimit": NUMBER, "activeDeadlineSeconds": NUMBER, "shutdownAfterJobFinishes": YES,
                 "ttlSecondsAfterFinished": NUMBER, "rayClusterSpec": CLUSTER}
    },
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "spec": {"selector": {"matchLabels": NAMES}, "podTargetLabels": [TEXT],
                 "podMetricsEndpoints": [{"port": TEXT, "interval": TEXT}]}
    },
    ("monitoring.coreos.com/v1", "PrometheusRule"): {
        "spec": {"groups": [{"name": TEXT, "rules": [{"alert": TEXT, "expr": TEXT, "for": TEXT,
                                                       "annotations": NAMES}]}]}
    },
}  # fmt: skip


def problems(found: Any, schema: Any, where: str) -> list[str]:
    """Where ``found`` is not of ``schema``."""
    if isinstance(schema, dict):
        if not isinstance(found, dict):
            return [f"{where}: {found!r} is no mapping"]
        unknown = [f"{where}.{key}: no such field" for key in found if key not in schema and "..." not in schema]
        known = [(key, schema.get(key, schema.get("..."))) for key in found]
        return unknown + [line for key, of in known if of for line in problems(found[key], of, f"{where}.{key}")]
    if isinstance(schema, list):
        if not isinstance(found, list):
            return [f"{where}: {found!r} is no list"]
        return [line for i, each in enumerate(found) for line in problems(each, schema[0], f"{where}[{i}]")]
    if isinstance(schema, set):
        right = found in schema
    elif isinstance(schema, re.Pattern):
        right = isinstance(found, str) and schema.fullmatch(found)
    else:
        right = type(found) is schema
    return [] if right else [f"{where}: {found!r} is not of {schema}"]


def judged(document: dict) -> list[str]:
    own = KINDS.get((document.get("apiVersion"), document.get("kind")))
    if own is None:
        return [f"{document.get('apiVersion')} {document.get('kind')} is no kind that is known here"]
    return problems(document, {"apiVersion": TEXT, "kind": TEXT, "metadata": META, **own}, document["kind"])


def documents(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(path.read_text()))


def one(kind: str) -> dict:
    (found,) = [document for path in FILES for document in documents(path) if document["kind"] == kind]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_field_is_known_and_of_its_type(path):
    assert [line for document in documents(path) for line in judged(document)] == []


def test_there_is_what_a_cluster_needs():
    found = [(document["kind"], document["metadata"]["name"]) for path in FILES for document in documents(path)]
    assert {kind for kind, _ in found} == {kind for _, kind in KINDS}
    assert len(set(found)) == len(found)


def claim(name: str) -> dict:
    claims = [one for path in FILES for one in documents(path) if one["kind"] == "PersistentVolumeClaim"]
    return {found["metadata"]["name"]: found["spec"] for found in claims}[name]


def test_two_heads_on_two_nodes_may_mount_what_they_share():
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for spec in (one("RayCluster")["spec"], one("RayJob")["spec"]["rayClusterSpec"])
        for volume in spec["headGroupSpec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert claims == ["rnncond"] * 2
    assert claim("rnncond")["accessModes"] == ["ReadWriteMany"]


def test_the_tracking_server_of_the_settings_is_deployed_and_answers_by_that_name():
    from mlflow.cli import cli
    from mlflow.server.security_utils import is_allowed_host_header

    deployment, service = one("Deployment")["spec"], one("Service")
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert (
        container["image"] == one("RayCluster")["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    )
    program, verb, *words = container["command"]
    assert (program, verb) == ("mlflow", "server")
    options = cli.commands[verb].make_context(verb, words).params
    (port,) = service["spec"]["ports"]
    uri = f"http://{service['metadata']['name']}:{port['port']}"
    assert one("ConfigMap")["data"]["MLFLOW_TRACKING_URI"] == uri
    hosts = options["allowed_hosts"].split(",")
    assert is_allowed_host_header(hosts, "mlflow:5000") and is_allowed_host_header(hosts, "localhost:5001")
    assert (options["host"], options["port"]) == ("0.0.0.0", container["ports"][0]["containerPort"])
    assert port["targetPort"] == container["ports"][0]["name"] == container["readinessProbe"]["httpGet"]["port"]
    labels = deployment["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["selector"]["matchLabels"] == labels
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert pod["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "mlflow"}}]
    assert options["backend_store_uri"].startswith(f"sqlite:///{mounted['data']}/")
    assert options["artifacts_destination"].startswith(f"{mounted['data']}/")
    # One writer: neither two servers nor an old beside a new one.
    assert (claim("mlflow")["accessModes"], deployment["strategy"]) == (["ReadWriteOnce"], {"type": "Recreate"})
    assert deployment["replicas"] == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: spec.update(enableInTreeAutoscalling=True), "no such field"),
        (lambda spec: spec["workerGroupSpecs"][0].update(minReplicas="1"), "'1' is not of"),
        (lambda spec: spec["autoscalerOptions"].update(upscalingMode="Fast"), "'Fast' is not of"),
        (lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}), "0 is not of"),
        (lambda spec: spec["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"].update(limits={"cpu": 4}),
         "4 is not of"),
        (lambda spec: spec.update(workerGroupSpecs={}), "no list"),
    ],
)  # fmt: skip
def test_a_mistake_is_found(change, told):
    damaged = copy.deepcopy(one("RayCluster"))
    change(damaged["spec"])
    (line,) = judged(damaged)
    assert told in line


def test_versions_and_images_agree():
    ray = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    for spec in (one("RayCluster")["spec"], one("RayJob")["spec"]["rayClusterSpec"]):
        assert spec["rayVersion"] == ray
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            (container,) = group["template"]["spec"]["containers"]
            assert container["image"] == f"registry.example.com/rnncond:{project}-ray{ray}"
    recipe = (ROOT / "deploy" / "Containerfile").read_text()
    assert re.search(rf"^ARG BASE=docker.io/rayproject/ray:{re.escape(ray)}-py311-gpu$", recipe, re.MULTILINE)
    assert f"rnncond:{project}-ray{ray} ." in recipe


def test_the_image_is_pinned_has_the_packages_and_is_no_root():
    lines = (ROOT / "deploy" / "Containerfile").read_text().splitlines()
    assert any("--constraint constraints.txt" in line for line in lines)
    for line in lines:
        assert "index-url" not in line and not re.match(r"USER (root|0\b)", line)
        if line.startswith("COPY"):
            *sources, _ = line.split()[2:]
            assert all((ROOT / source).exists() for source in sources)
    copied = " ".join(line for line in lines if line.startswith("COPY"))
    assert all(package in copied for package in ("rnncond", "feature_store", "pipelines"))
    assert [line for line in lines if line.startswith("USER")][-1] == "USER 1000:100"


def test_the_clusters_of_both_files_are_one_but_for_the_pipeline():
    job = copy.deepcopy(one("RayJob")["spec"]["rayClusterSpec"])
    pod = job["headGroupSpec"]["template"]["spec"]
    pod["volumes"].remove({"name": "pipeline", "configMap": {"name": "rnncond-pipeline"}})
    pod["containers"][0]["volumeMounts"].remove({"name": "pipeline", "mountPath": "/etc/rnncond"})
    assert job == one("RayCluster")["spec"]


def test_workers_come_and_go_and_what_is_mounted_is_there():
    spec = one("RayCluster")["spec"]
    assert spec["enableInTreeAutoscaling"] and spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert [group["groupName"] for group in spec["workerGroupSpecs"]] == ["cpu", "gpu"]
    for group in spec["workerGroupSpecs"]:
        assert 1 <= group["minReplicas"] <= group["replicas"] < group["maxReplicas"]
    pods = [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    pods.append(one("RayJob")["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"])
    pods.append(one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"])
    for pod in pods:
        volumes = {volume["name"] for volume in pod["volumes"]}
        used = [mount["name"] for container in (*pod["containers"], *pod.get("initContainers", ()))
                for mount in container.get("volumeMounts", ())]  # fmt: skip
        assert set(used) == volumes
        assert pod["securityContext"]["runAsNonRoot"] is True


def test_the_night_may_do_what_it_does_and_waits_for_the_job_it_starts():
    role, cron, job = one("Role"), one("CronJob")["spec"], one("RayJob")["metadata"]["name"]
    pod = cron["jobTemplate"]["spec"]["template"]["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    assert pod["serviceAccountName"] == one("ServiceAccount")["metadata"]["name"]
    assert one("RoleBinding")["subjects"][0]["name"] == pod["serviceAccountName"]
    assert one("RoleBinding")["roleRef"]["name"] == role["metadata"]["name"]
    commands = [container["command"] for container in (*pod["initContainers"], *pod["containers"])]
    assert [command[:2] for command in commands] == [["kubectl", each] for each in ("delete", "create", "wait", "wait")]
    assert {"delete", "create", "get", "watch"} <= set(role["rules"][0]["verbs"])
    assert all(job in word for command in commands for word in command if re.match(r"rnncond|rayjob/", word))


def test_the_jobs_command_is_one_of_ours():
    shell, option, script = shlex.split(one("RayJob")["spec"]["entrypoint"])
    assert (shell, option) == ("bash", "-c")
    words = shlex.split(script.partition("||")[0])
    assert words[:3] == ["rnncond", "run", "/etc/rnncond/pipeline.yaml"] and words[1] in VERBS
    from typer.main import get_command

    from pipelines.verbs import run

    known = {option for parameter in get_command(run.app).params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


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
    assert all(out.startswith(("/shared/", "s3://")) for out in outputs), "what outlives a cluster"
    read = [value for stage in found.stages for value in stage.words if "captions.jsonl" in value]
    assert read and all("s3://bucket/captions.jsonl" in value for value in read), "which every cluster can read"


def test_what_is_alarmed_on_is_exported():
    from pipelines.cluster import prometheus

    names = {name for name, _ in prometheus.PACE.values()} | {prometheus.SCORE[0]}
    names |= {
        f"{about[0]}_total" for about in (prometheus.INPUTS, prometheus.FAILED, prometheus.UNITS, prometheus.BYTES)
    }
    rules = [rule for group in one("PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    used = {name for rule in rules for name in re.findall(r"ray_(rnncond_\w+)", rule["expr"])}
    assert used and used <= names
