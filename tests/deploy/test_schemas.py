"""Every manifest is one that its API server takes, by Kubernetes' own OpenAPI and by what KubeRay and the Prometheus
operator publish (tests/data). A misspelt field is refused, wherever it stands."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.worlds.manifests import FILES, documents, one, problems

CORE = {"ConfigMap", "CronJob", "Deployment", "PersistentVolumeClaim", "Service"}
RIGHTS = {"NetworkPolicy", "PodDisruptionBudget", "Role", "RoleBinding", "ServiceAccount"}
OPERATORS = {"RayCluster", "RayJob", "RayCronJob", "PodMonitor", "PrometheusRule"}
FREE = {"labels", "annotations", "data", "matchLabels", "requests", "limits", "rayStartParams", "selector"}
"""Mappings whose keys are the user's own, ``selector`` only in a Service."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_kubernetes_takes_it(path):
    assert {document["metadata"]["name"]: problems(document) for document in documents(path)} == {
        document["metadata"]["name"]: [] for document in documents(path)
    }


def test_there_is_what_a_cluster_needs():
    there = [(document["kind"], document["metadata"]["name"]) for path in FILES for document in documents(path)]
    assert {kind for kind, _ in there} == CORE | RIGHTS | OPERATORS
    assert len(set(there)) == len(there)


def fields(value: Any, kind: str, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every field in ``value`` whose name is the API's; of a list's members only the first."""
    if isinstance(value, list) and value:
        yield from fields(value[0], kind, (*place, 0))
    if not isinstance(value, dict) or (place and place[-1] in FREE and (place[-1] != "selector" or kind == "Service")):
        return
    for key, below in value.items():
        if place or key not in ("apiVersion", "kind"):
            yield (*place, key)
        yield from fields(below, kind, (*place, key))


def misspelt(document: dict, place: tuple[str | int, ...]) -> dict:
    """A copy in which the field at ``place`` has one letter more."""
    damaged = copy.deepcopy(document)
    inner: Any = damaged
    for step in place[:-1]:
        inner = inner[step]
    inner[f"{place[-1]}s"] = inner.pop(place[-1])
    return damaged


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_misspelt_field_is_refused_wherever_it_stands(path):
    for document in documents(path):
        # The clusters of jobs are that of raycluster.yaml, see test_pods.py.
        places = [place for place in fields(document, document["kind"]) if "rayClusterSpec" not in place[:-1]]
        assert len(places) > 1
        assert [place for place in places if not problems(misspelt(document, place))] == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: spec.update(enableInTreeAutoscalling=True), "'enableInTreeAutoscalling' was unexpected"),
        (lambda spec: spec["workerGroupSpecs"][0].update(minReplicas="1"), "'1' is not of type 'integer'"),
        (lambda spec: spec["workerGroupSpecs"][0].pop("groupName"), "'groupName' is a required property"),
        (lambda spec: spec["autoscalerOptions"].update(upscalingMode="Fast"), "'Fast' is not one of"),
        (lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}), "0 is not of type 'string'"),
        (lambda spec: spec["headGroupSpec"]["template"]["spec"].pop("containers"), "'containers' is a required"),
        (lambda spec: spec["headGroupSpec"]["template"]["spec"]["volumes"][0].update(emptyDirs={}), "unexpected"),
        (lambda spec: spec.update(workerGroupSpecs={}), "{} is not of type 'array'"),
    ],
)
def test_a_mistake_is_told(change, told):
    damaged = copy.deepcopy(one("RayCluster"))
    change(damaged["spec"])
    (line,) = problems(damaged)
    assert told in line


def test_what_is_no_kind_is_told():
    (line,) = problems({"apiVersion": "ray.io/v1", "kind": "RayCluter", "metadata": {"name": "one"}, "spec": {}})
    assert "is no kind that is known here" in line
