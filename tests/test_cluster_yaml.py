"""cluster.yaml, held to what `ray up` checks and to what the project needs of a cluster."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_CLUSTER_NAME

from pipelines.allocator import KEEP_FREED_MEMORY

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config() -> dict:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def accepted(config: dict) -> dict:
    """What `ray up` does before it asks the cloud for anything."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_accepts_it(config):
    prepared = accepted(config)
    assert set(prepared["available_node_types"]) == {"head", "cpu", "gpu"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda config: config.update(max_worker=3),
        lambda config: config["available_node_types"]["gpu"].update(resources={"GPU": "one"}),
        lambda config: config["available_node_types"]["cpu"].pop("node_config"),
    ],
    ids=["misspelt key", "resource is text", "no node_config"],
)
def test_ray_refuses_a_damaged_one(config, damage):
    damage(config)
    with pytest.raises(jsonschema.ValidationError):
        accepted(config)


def test_the_head_does_no_work_and_workers_come_and_go(config):
    nodes = config["available_node_types"]
    assert config["head_node_type"] == "head"
    assert nodes["head"]["resources"] == {"CPU": 0}
    for kind in ("cpu", "gpu"):
        assert 0 == nodes[kind]["min_workers"] < nodes[kind]["max_workers"]
    assert nodes["gpu"]["resources"]["GPU"] >= 1
    assert "GPU" not in nodes["cpu"]["resources"]


RUN_OPTIONS = re.compile(r"--ulimit [a-z]+=\d+:\d+|--env [A-Z_]+=\S+")
"""Those that Docker understands and Ray does not give itself; another is to be looked up and added."""


def test_docker_understands_the_run_options(config):
    # Ray computes --shm-size, which Docker does not take in per cent, for each node that is not given one.
    assert [option for option in config["docker"]["run_options"] if not RUN_OPTIONS.fullmatch(option)] == []


def test_every_node_has_a_role_for_one_bucket(config):
    """A head without a role is given one by Ray that may use all of S3; workers are given none."""
    roles = {kind: node["node_config"]["IamInstanceProfile"] for kind, node in config["available_node_types"].items()}
    assert roles == {kind: {"Name": f"rnncond-{'head' if kind == 'head' else 'worker'}"} for kind in roles}
    for kind, node in config["available_node_types"].items():
        assert node["node_config"]["MetadataOptions"]["HttpTokens"] == "required", kind


def statements(name: str) -> list[dict]:
    return json.loads((ROOT / "deploy/aws" / f"{name}.json").read_text())["Statement"]


def test_the_roles_are_for_one_bucket_and_the_nodes_of_this_cluster(config):
    bucket = statements("bucket")
    assert {statement["Resource"] for statement in bucket} == {"arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*"}
    actions = {action for statement in bucket for action in statement["Action"]}
    assert {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"} <= actions
    assert not any("*" in action for action in actions)
    head = statements("head")
    (passing,) = [statement for statement in head if statement["Action"] == "iam:PassRole"]
    assert passing["Resource"].endswith(":role/rnncond-worker")
    (ending,) = [statement for statement in head if "ec2:TerminateInstances" in statement["Action"]]
    # Ray tags each node with the cluster's name.
    assert ending["Condition"]["StringEquals"] == {f"ec2:ResourceTag/{TAG_RAY_CLUSTER_NAME}": config["cluster_name"]}
    text = (ROOT / "cluster.yaml").read_text()
    assert "attach-role-policy" not in text, "policies of AWS's own are for everything"
    for name in re.findall(r"file://(\S+)", text):
        assert (ROOT / name).exists()


def test_workers_keep_freed_memory(config):
    *_, start = config["worker_start_ray_commands"]
    assert " ".join(f"{name}={value}" for name, value in KEEP_FREED_MEMORY.items()) + " ray start" in start


def test_versions_are_those_of_the_constraints(config):
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert config["docker"]["image"].startswith(f"rayproject/ray:{pinned}-")
    assert any("--constraint constraints.txt" in command for command in config["setup_commands"])
