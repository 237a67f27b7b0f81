"""The manifests of deploy/ and examples/, and whether Kubernetes and the operators would take them."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy" / "kuberay").glob("*.yaml"))
KUBERNETES = "kubernetes-json-schema/v1.34.0-local-strict"
"""Kubernetes' OpenAPI, where kubernetes_validate keeps it; fields that it does not know are refused. 1.34 is the one
whose types the published schema of KubeRay has."""
DEFINITIONS = "https://kubernetes.io/api/_definitions.json"
PUBLISHED = {"ray.io/v1": "kuberay.yaml", "monitoring.coreos.com/v1": "prometheus_operator.yaml"}


@cache
def documents(path: Path) -> list[dict]:
    """What is in a file, read once: who changes it copies it."""
    return list(yaml.safe_load_all(path.read_text()))


def one(kind: str, name: str | None = None) -> dict:
    """The document of deploy/kuberay of this kind, and of this name where there are several."""
    (document,) = [
        document
        for path in FILES
        for document in documents(path)
        if document["kind"] == kind and name in (None, document["metadata"]["name"])
    ]
    return document


def every(kind: str) -> list[dict]:
    return [document for path in FILES for document in documents(path) if document["kind"] == kind]


def clusters() -> dict[str, dict]:
    """The specs of all clusters, by the kind that makes them."""
    return {
        "RayCluster": one("RayCluster")["spec"],
        "RayJob": one("RayJob")["spec"]["rayClusterSpec"],
        "RayCronJob": one("RayCronJob")["spec"]["jobTemplate"]["rayClusterSpec"],
    }


def pods() -> dict[str, dict]:
    """Every pod's template by the place where it stands."""
    templates = {
        "mlflow": one("Deployment")["spec"]["template"],
        "nightly": one("CronJob")["spec"]["jobTemplate"]["spec"]["template"],
        "RayJob submitter": one("RayJob")["spec"]["submitterPodTemplate"],
        "RayCronJob submitter": one("RayCronJob")["spec"]["jobTemplate"]["submitterPodTemplate"],
    }
    for kind, spec in clusters().items():
        templates[f"{kind} head"] = spec["headGroupSpec"]["template"]
        templates |= {f"{kind} {group['groupName']}": group["template"] for group in spec["workerGroupSpecs"]}
    return templates


def is_ray_node(place: str) -> bool:
    return place.startswith("Ray") and not place.endswith("submitter")


def labels(place: str) -> dict[str, str]:
    """The labels of the pod at ``place``, with those that the operator gives."""
    own = pods()[place]["metadata"]["labels"]
    if not is_ray_node(place):
        return own
    kind, _, group = place.partition(" ")
    cluster = one("RayCluster")["metadata"]["name"] if kind == "RayCluster" else "made-for-one-job"
    node = "head" if group == "head" else "worker"
    return own | {"ray.io/is-ray-node": "yes", "ray.io/cluster": cluster, "ray.io/node-type": node}


def containers(pod: dict) -> list[dict]:
    return [*pod["containers"], *pod.get("initContainers", ())]


@cache
def _kubernetes(name: str) -> dict:
    return json.loads(resources.files("kubernetes_validate").joinpath(KUBERNETES, name).read_text(encoding="utf-8"))


@cache
def _validator(api_version: str, kind: str) -> Draft202012Validator:
    definitions = _kubernetes("_definitions.json")
    if api_version in PUBLISHED:
        published = yaml.safe_load((ROOT / "tests" / "data" / PUBLISHED[api_version]).read_text())
        schema = _strict(
            {
                "type": "object",
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"kubernetes": "ObjectMeta"},
                    "spec": {"$ref": kind},
                },
                "required": ["metadata", "spec"],
            },
            published,
        )
    else:
        group = re.sub(r"^([^./]*)([.][^/]*)?/", r"\1-", api_version)  # rbac.authorization.k8s.io/v1 is rbac-v1 there
        schema = _kubernetes(f"{kind.lower()}-{group}.json")
    registry: Registry = Registry().with_resource(DEFINITIONS, Resource.from_contents(definitions))
    return Draft202012Validator(schema, registry=registry)


def _strict(schema: Any, published: dict) -> Any:
    """A published schema as a JSON schema that refuses unknown fields, as `kubectl apply` does."""
    if isinstance(schema, list):
        return [_strict(each, published) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(name := schema.get("$ref"), str):
        return _strict(published[name], published)
    if isinstance(name := schema.get("kubernetes"), str):
        known = _kubernetes("_definitions.json")["$defs"]
        prefixes = "io.k8s.api.core.v1.", "io.k8s.apimachinery.pkg.apis.meta.v1."
        (whole,) = [prefix + name for prefix in prefixes if prefix + name in known]
        return {"$ref": f"{DEFINITIONS}#/$defs/{whole}"}
    closed = {key: _strict(value, published) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and closed.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def problems(document: dict) -> list[str]:
    """What Kubernetes would refuse in ``document``: unknown fields, missing ones, wrong types."""
    try:
        validator = _validator(document["apiVersion"], document["kind"])
    except (FileNotFoundError, KeyError):
        return [f"{document.get('apiVersion')} {document.get('kind')} is no kind that is known here"]
    return [
        f"{'.'.join(str(step) for step in error.absolute_path)}: {error.message}"
        for error in validator.iter_errors(document)
    ]
