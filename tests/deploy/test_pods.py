"""Every pod: what is mounted is there, nobody is root or writes where it need not, and only who is named comes in."""

from __future__ import annotations

import copy
import re

import pytest

from pipelines.allocator import KEEP_FREED_MEMORY
from tests.worlds.manifests import clusters, containers, every, is_ray_node, labels, one, pods


def test_the_clusters_of_all_files_are_one_but_for_the_pipeline():
    job = copy.deepcopy(one("RayJob")["spec"]["rayClusterSpec"])
    template = job["headGroupSpec"]["template"]
    del template["metadata"]["labels"]["app.kubernetes.io/component"]
    template["spec"]["volumes"].remove({"name": "pipeline", "configMap": {"name": "rnncond-pipeline"}})
    template["spec"]["containers"][0]["volumeMounts"].remove({"name": "pipeline", "mountPath": "/etc/rnncond"})
    assert job == one("RayCluster")["spec"]
    assert one("RayCronJob")["spec"]["jobTemplate"]["rayClusterSpec"] == one("RayJob")["spec"]["rayClusterSpec"]


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


def test_no_volume_is_one_that_several_nodes_mount():
    claims = {claim["metadata"]["name"]: claim["spec"]["accessModes"] for claim in every("PersistentVolumeClaim")}
    mounted = [
        volume["persistentVolumeClaim"]["claimName"]
        for template in pods().values()
        for volume in template["spec"].get("volumes", ())
        if "persistentVolumeClaim" in volume
    ]
    assert mounted == list(claims) == ["mlflow"], "each by one pod"
    assert claims["mlflow"] == ["ReadWriteOnce"]


def refused(pod: dict) -> list[str]:
    """What the Pod Security Standard `restricted` has against a pod, by its published list of fields; and whether
    the files of its image may be changed, which the standard leaves open."""
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
        if context.get("readOnlyRootFilesystem") is not True:
            reasons.append(f"{name} may write into its image")
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
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]) and "memory" in resources["limits"]


def bytes_of(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", quantity).groups()
    return int(number) << {"Ki": 10, "Mi": 20, "Gi": 30}[unit]


@pytest.mark.parametrize("place", pods())
def test_what_is_written_lies_in_a_folder_of_bounded_size(place):
    """A disk that fills evicts other pods of the node, and memory that is a disk counts as the container's."""
    pod = pods()[place]["spec"]
    folders = {volume["name"]: volume["emptyDir"] for volume in pod.get("volumes", ()) if "emptyDir" in volume}
    (container,) = pod["containers"]
    requests = container["resources"]["requests"]
    in_memory = [bytes_of(folder["sizeLimit"]) for folder in folders.values() if folder.get("medium") == "Memory"]
    on_disk = [bytes_of(folder["sizeLimit"]) for folder in folders.values() if "medium" not in folder]
    assert sum(in_memory) <= bytes_of(requests["memory"]) / 2
    assert sum(on_disk) < bytes_of(requests.get("ephemeral-storage", "1Gi"))
    mounted = {mount["mountPath"] for mount in container.get("volumeMounts", ())}
    assert ({"/tmp", "/dev/shm"} if is_ray_node(place) else set()) <= mounted


def test_the_operators_own_containers_are_locked_too():
    """It gives a worker's first container the context of the worker, and the autoscaler the one that is asked for."""
    for spec in clusters().values():
        options = spec["autoscalerOptions"]
        assert options["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        volumes = {volume["name"] for volume in spec["headGroupSpec"]["template"]["spec"]["volumes"]}
        assert {mount["name"] for mount in options["volumeMounts"]} <= volumes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda pod: pod.update(hostNetwork=True), "hostNetwork is set"),
        (lambda pod: pod["securityContext"].pop("seccompProfile"), "nightly has no seccomp profile"),
        (lambda pod: pod["securityContext"].pop("runAsNonRoot"), "nightly may be root"),
        (lambda pod: pod["containers"][0]["securityContext"].pop("capabilities"), "nightly has capabilities"),
        (
            lambda pod: pod["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
            "nightly may write into its image",
        ),
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
    assert asking == {"nightly", "RayCluster head", "RayJob head", "RayCronJob head"}


def selects(selector: dict, labels: dict[str, str]) -> bool:
    return selector["matchLabels"].items() <= labels.items()


def test_processes_keep_freed_memory():
    assert one("ConfigMap", "rnncond")["data"].items() >= KEEP_FREED_MEMORY.items()


def test_a_drain_waits_for_heads_and_for_nothing_else():
    """Pods of an operator have no scale that Kubernetes knows: a budget for them has to be a number that stays."""
    budgets = every("PodDisruptionBudget")
    assert all(budget["spec"]["minAvailable"] == 1 for budget in budgets)
    waited_for = {
        place: [budget["metadata"]["name"] for budget in budgets if selects(budget["spec"]["selector"], labels(place))]
        for place in pods()
    }
    assert {place: names for place, names in waited_for.items() if names} == {
        "RayCluster head": ["rnncond-cluster-head"],
        "RayJob head": ["rnncond-pipeline-head"],
        "RayCronJob head": ["rnncond-pipeline-head"],
    }


def test_every_pod_lets_in_only_those_who_are_named():
    policies = every("NetworkPolicy")
    for place in pods():
        own = [policy for policy in policies if selects(policy["spec"]["podSelector"], labels(place))]
        assert {kind for policy in own for kind in policy["spec"]["policyTypes"]} == {"Ingress", "Egress"}, place
        callers = [rule for policy in own for rule in policy["spec"].get("ingress", ())]
        assert all(rule.get("from") and all(rule["from"]) for rule in callers), "an empty rule or peer is everybody"
        assert bool(callers) == (is_ray_node(place) or place == "mlflow")
        for rule in (rule for policy in own for rule in policy["spec"].get("egress", ())):
            for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
                assert {"0.0.0.0/0": "169.254.0.0/16", "::/0": "fe80::/10"}[block["cidr"]] in block["except"]
    (mlflow,) = [policy for policy in policies if policy["metadata"]["name"] == "mlflow"]
    (rule,) = mlflow["spec"]["ingress"]
    assert selects(mlflow["spec"]["podSelector"], labels("mlflow"))
    assert rule["ports"] == [{"protocol": "TCP", "port": one("Service")["spec"]["ports"][0]["port"]}]
