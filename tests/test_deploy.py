"""deploy/: every field is one that Kubernetes, KubeRay or the Prometheus operator knows, and all files agree with one
another and with the project. The tables have the fields in use, from the published types (KubeRay's ray.io/v1, of which
``authOptions`` needs 1.6); a field that is not in them is misspelt, or is to be looked up and added."""

from __future__ import annotations

import base64
import copy
import http.server
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cli.commands import VERBS, app_of, stage_command
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
LOCKED = {"allowPrivilegeEscalation": YES, "capabilities": {"drop": [TEXT]}}
CONTAINER = {
    "name": TEXT, "image": TEXT, "command": [TEXT], "args": [TEXT], "resources": RESOURCES,
    "ports": [{"name": TEXT, "containerPort": NUMBER}],
    "env": [{"name": TEXT, "value": TEXT, "valueFrom": {"fieldRef": {"fieldPath": TEXT}}}],
    "envFrom": [{"configMapRef": REFERENCE, "secretRef": REFERENCE}],
    "volumeMounts": [{"name": TEXT, "mountPath": TEXT, "readOnly": YES}],
    "securityContext": LOCKED,
    "readinessProbe": {"httpGet": {"path": TEXT, "port": TEXT}},
}  # fmt: skip
POD = {
    "containers": [CONTAINER], "initContainers": [CONTAINER], "serviceAccountName": TEXT,
    "restartPolicy": {"Never", "OnFailure", "Always"}, "terminationGracePeriodSeconds": NUMBER,
    "automountServiceAccountToken": YES,
    "securityContext": {"runAsNonRoot": YES, "runAsUser": NUMBER, "runAsGroup": NUMBER, "fsGroup": NUMBER,
                        "seccompProfile": {"type": {"RuntimeDefault", "Localhost", "Unconfined"}}},
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
                          "resources": RESOURCES, "securityContext": LOCKED},
    "headGroupSpec": {**GROUP, "serviceType": {"ClusterIP", "NodePort", "LoadBalancer"}},
    "workerGroupSpecs": [{**GROUP, "groupName": TEXT, "replicas": NUMBER, "minReplicas": NUMBER,
                          "maxReplicas": NUMBER}],
}  # fmt: skip
PORTS = [{"protocol": {"TCP", "UDP"}, "port": NUMBER}]
PEERS = [{"podSelector": {"matchLabels": NAMES}, "namespaceSelector": {"matchLabels": NAMES},
          "ipBlock": {"cidr": TEXT, "except": [TEXT]}}]  # fmt: skip
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
                 "ttlSecondsAfterFinished": NUMBER, "rayClusterSpec": CLUSTER, "submitterPodTemplate": TEMPLATE}
    },
    ("networking.k8s.io/v1", "NetworkPolicy"): {
        "spec": {"podSelector": {"matchLabels": NAMES}, "policyTypes": [{"Ingress", "Egress"}],
                 "ingress": [{"from": PEERS, "ports": PORTS}], "egress": [{"to": PEERS, "ports": PORTS}]}
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


def one(kind: str, name: str | None = None) -> dict:
    (document,) = [
        document
        for path in FILES
        for document in documents(path)
        if document["kind"] == kind and name in (None, document["metadata"]["name"])
    ]
    return document


def pods() -> dict[str, dict]:
    """Every pod's template by the place where it stands."""
    templates = {"mlflow": one("Deployment")["spec"]["template"]}
    templates["nightly"] = one("CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    job = one("RayJob")["spec"]
    templates["submitter"] = job["submitterPodTemplate"]
    for kind, spec in (("RayCluster", one("RayCluster")["spec"]), ("RayJob", job["rayClusterSpec"])):
        templates |= {f"{kind} head": spec["headGroupSpec"]["template"]}
        templates |= {f"{kind} {group['groupName']}": group["template"] for group in spec["workerGroupSpecs"]}
    return templates


def containers(pod: dict) -> list[dict]:
    return [*pod["containers"], *pod.get("initContainers", ())]


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
    assert one("ConfigMap", "rnncond")["data"]["MLFLOW_TRACKING_URI"] == uri
    hosts = options["allowed_hosts"].split(",")
    assert is_allowed_host_header(hosts, "mlflow:5000") and is_allowed_host_header(hosts, "localhost:5001")
    assert (options["host"], options["port"]) == ("0.0.0.0", container["ports"][0]["containerPort"])
    assert port["targetPort"] == container["ports"][0]["name"] == container["readinessProbe"]["httpGet"]["port"]
    labels = deployment["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["selector"]["matchLabels"] == {"app": labels["app"]}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert pod["volumes"][0] == {"name": "data", "persistentVolumeClaim": {"claimName": "mlflow"}}
    assert options["backend_store_uri"].startswith(f"sqlite:///{mounted['data']}/")
    assert options["artifacts_destination"].startswith(f"{mounted['data']}/")
    assert options["app_name"] == "basic-auth"
    assert mounted["auth"] == str(Path(env(container)["MLFLOW_AUTH_CONFIG_PATH"]).parent)
    # One writer: neither two servers nor an old beside a new one.
    assert (claim("mlflow")["accessModes"], deployment["strategy"]) == (["ReadWriteOnce"], {"type": "Recreate"})
    assert deployment["replicas"] == 1


def env(container: dict) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


@pytest.mark.slow
def test_the_tracking_server_asks_for_a_password(tmp_path):
    (container,) = pods()["mlflow"]["spec"]["containers"]
    words = [word.replace("/mlflow/", f"{tmp_path}/") for word in container["command"]]
    port = free_port()
    words = [f"--port={port}" if word.startswith("--port") else word for word in words]
    settings = one("ConfigMap", "mlflow")["data"]["basic_auth.ini"].replace("/mlflow/", f"{tmp_path}/")
    (tmp_path / "basic_auth.ini").write_text(settings)
    secrets = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "key", "MLFLOW_AUTH_ADMIN_PASSWORD": "correct horse"}
    environment = {**os.environ, **secrets, "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "basic_auth.ini")}
    command = [sys.executable, "-m", "mlflow", *words[1:]]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while answer(f"http://localhost:{port}/health") != 200:  # where the readiness probe looks, without a password
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.5)
        experiments = f"http://localhost:{port}/api/2.0/mlflow/experiments/get?experiment_id=0"
        assert [answer(experiments), answer(experiments, "admin:wrong")] == [401, 401]
        assert answer(experiments, "admin:correct horse") == 200
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def answer(uri: str, user: str = "") -> int:
    """The HTTP status of a GET, with ``user:password`` if it is given; 0 where nobody answers."""
    credentials = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()} if user else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(uri, headers=credentials)) as got:
            return got.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


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
    images = {container["image"] for template in pods().values() for container in containers(template["spec"])}
    assert images == {f"registry.example.com/rnncond:{project}-ray{ray}"}
    recipe = (ROOT / "deploy" / "Containerfile").read_text()
    assert re.search(rf"^ARG BASE=docker.io/rayproject/ray:{re.escape(ray)}-py311-gpu$", recipe, re.MULTILINE)
    assert f"rnncond:{project}-ray{ray} ." in recipe


def test_the_documented_command_names_every_image_by_its_digest(tmp_path):
    """And a second time, with the next image."""
    text = (ROOT / "docs/operating.md").read_text()
    (command,) = re.findall(r"^sed -i .*deploy/kuberay.*$", text, re.MULTILINE)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    for image, digest in (
        ("r.example.org/a/rnncond:1", "sha256:" + "0a" * 32),
        ("r2/rnncond:2", "sha256:" + "1b" * 32),
    ):
        environment = {**os.environ, "IMAGE": image, "DIGEST": digest}
        subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment, check=True)
        for path in FILES:
            images = re.findall(r"image: (\S+)", (tmp_path / "deploy/kuberay" / path.name).read_text())
            assert images == [f"{image}@{digest}"] * len(re.findall(r"image: ", path.read_text()))


def instructions() -> list[list[str]]:
    """The words of each line of the Containerfile that is no comment."""
    lines = (ROOT / "deploy/Containerfile").read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def test_the_image_is_pinned_and_has_what_the_package_is_built_from():
    text = (ROOT / "deploy/Containerfile").read_text()
    assert "--constraint constraints.txt" in text and "index-url" not in text
    sources = {source for line in instructions() if line[0] == "COPY" for source in line[2:-1]}
    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", "constraints.txt", project["readme"], *project["license-files"]}
    assert sources == needed | {"rnncond", "feature_store", "pipelines"}
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert set(sent) == sources, "what a builder is sent"
    extra = re.search(r"'\.\[(\w+)\]'", text)[1]
    assert "mlflow[auth]" in project["optional-dependencies"][extra][0], "for the server of mlflow.yaml"


def test_the_image_is_built_and_run_as_its_user():
    """Docker makes the folders of WORKDIR and COPY as root, and Podman as the user: none is left to either."""
    lines = instructions()
    (user,) = [number for number, line in enumerate(lines) if line[0] == "USER"]
    assert lines[user] == ["USER", "1000:100"] and [line[0] for line in lines[:user]] == ["ARG", "FROM"]
    made = {"/home/ray"}  # by the base image, for its user
    for line in lines[user:]:
        if line[:2] == ["RUN", "mkdir"]:
            assert line[2].rpartition("/")[0] in made
            made.add(line[2])
        if line[0] == "WORKDIR":
            assert line[1] in made
        if line[0] == "COPY":
            assert line[1] == "--chown=1000:100"
            assert line[-1] == "./" or ((ROOT / line[-1]).is_dir() and line[2] == line[-1]), "into the folder above"


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
        assert 0 == group["minReplicas"] == group["replicas"] < group["maxReplicas"]


@pytest.mark.parametrize("place", pods())
def test_what_is_mounted_is_there(place):
    pod = pods()[place]["spec"]
    used = [mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", ())]
    assert set(used) == {volume["name"] for volume in pod.get("volumes", ())}


def refused(pod: dict) -> list[str]:
    """What the Pod Security Standard `restricted` has against a pod, by its published list of fields."""
    reasons = [f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    own = pod.get("securityContext", {})
    kinds = {kind for volume in pod.get("volumes", ()) for kind in volume if kind != "name"}
    reasons += [
        f"a volume is of {kind}" for kind in kinds - {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    ]
    for container in containers(pod):
        context, name = container.get("securityContext", {}), container["name"]
        if context.get("allowPrivilegeEscalation") is not False:
            reasons.append(f"{name} may escalate")
        if context.get("capabilities", {}).get("drop") != ["ALL"] or context["capabilities"].get("add"):
            reasons.append(f"{name} has capabilities")
        if context.get("privileged"):
            reasons.append(f"{name} is privileged")
        if context.get("runAsNonRoot", own.get("runAsNonRoot")) is not True:
            reasons.append(f"{name} may be root")
        if context.get("runAsUser", own.get("runAsUser")) == 0:
            reasons.append(f"{name} is root")
        if context.get("seccompProfile", own.get("seccompProfile", {})).get("type") not in (
            "RuntimeDefault",
            "Localhost",
        ):
            reasons.append(f"{name} has no seccomp profile")
    return reasons


@pytest.mark.parametrize("place", pods())
def test_a_namespace_for_restricted_pods_takes_each(place):
    pod = pods()[place]["spec"]
    assert refused(pod) == []
    # An image's user named by number is what lets Kubernetes see that it is not root.
    assert pod["securityContext"]["runAsUser"] == 1000
    for container in containers(pod):
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]


def test_the_operators_own_containers_are_locked_too():
    """It gives a worker's first container the context of the worker, and the autoscaler the one that is asked for."""
    for spec in (one("RayCluster")["spec"], one("RayJob")["spec"]["rayClusterSpec"]):
        context = spec["autoscalerOptions"]["securityContext"]
        assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda pod: pod.update(hostNetwork=True), "hostNetwork is set"),
        (lambda pod: pod["securityContext"].pop("seccompProfile"), "nightly has no seccomp profile"),
        (lambda pod: pod["securityContext"].pop("runAsNonRoot"), "nightly may be root"),
        (lambda pod: pod["containers"][0]["securityContext"].pop("capabilities"), "nightly has capabilities"),
        (lambda pod: pod["containers"][0].pop("securityContext"), "nightly may escalate"),
        (lambda pod: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}), "a volume is of hostPath"),
    ],
)
def test_a_pod_that_is_not_locked_down_is_seen(change, told):
    pod = copy.deepcopy(pods()["nightly"]["spec"])
    change(pod)
    assert told in refused(pod)


def test_only_pods_that_ask_kubernetes_have_a_token():
    asking = {place for place, template in pods().items() if template["spec"].get("automountServiceAccountToken", True)}
    assert asking == {"nightly", "RayCluster head", "RayJob head"}


def selects(policy: dict, labels: dict[str, str]) -> bool:
    return policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_every_pod_lets_in_only_those_who_are_named():
    policies = [document for path in FILES for document in documents(path) if document["kind"] == "NetworkPolicy"]
    for place, template in pods().items():
        labels = template["metadata"]["labels"]
        if place.startswith("Ray"):
            labels = labels | {"ray.io/is-ray-node": "yes"}  # by the operator
        own = [policy for policy in policies if selects(policy, labels)]
        assert {kind for policy in own for kind in policy["spec"]["policyTypes"]} == {"Ingress", "Egress"}, place
        callers = [rule for policy in own for rule in policy["spec"].get("ingress", ())]
        assert all(rule.get("from") and all(rule["from"]) for rule in callers), "an empty rule or peer is everybody"
        assert bool(callers) == (place.startswith("Ray") or place == "mlflow")
        for rule in (rule for policy in own for rule in policy["spec"].get("egress", ())):
            for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
                assert {"0.0.0.0/0": "169.254.0.0/16", "::/0": "fe80::/10"}[block["cidr"]] in block["except"]
    (mlflow,) = [policy for policy in policies if policy["metadata"]["name"] == "mlflow"]
    (rule,) = mlflow["spec"]["ingress"]
    assert selects(mlflow, pods()["mlflow"]["metadata"]["labels"])
    assert rule["ports"] == [{"protocol": "TCP", "port": one("Service")["spec"]["ports"][0]["port"]}]


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
