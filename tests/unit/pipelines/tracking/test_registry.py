"""Versions of a registered model: which one is known, and which one is better."""

from __future__ import annotations

import mlflow
import pytest

from pipelines.tracking import registry
from pipelines.tracking.registry import ALLOWED_URIS, HELD_OUT, MODEL_ID, NO_URIS


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    return mlflow.MlflowClient(uri, uri)


@pytest.fixture
def name(client, request):
    """A registered model of the test's own."""
    client.create_registered_model(request.node.name)
    return request.node.name


def add(client, name: str, **tags: str) -> int:
    return int(client.create_model_version(name, "/nowhere", tags=tags).version)


@pytest.mark.parametrize(
    ("ours", "theirs", "better"),
    [
        ({"CIDEr": "9"}, {"CIDEr": "10"}, False),  # as numbers, not as text
        ({"CIDEr": "10"}, {"CIDEr": "9"}, True),
        ({"CIDEr": "9"}, {"CIDEr": "9"}, False),
        ({"BLEU": "9"}, {"CIDEr": "9"}, None),
        ({"CIDEr": "9"}, {"BLEU": "9"}, None),
        ({"CIDEr": "10", HELD_OUT: "b"}, {"CIDEr": "9"}, None),
        ({"CIDEr": "10", HELD_OUT: ""}, {"CIDEr": "9", HELD_OUT: ""}, None),  # unknown, on both sides
    ],
)
def test_scores_compare_on_the_same_data_alone(ours, theirs, better):
    assert registry.beats({HELD_OUT: "a"} | ours, {HELD_OUT: "a"} | theirs, "CIDEr") is better


def test_the_champion_is_who_was_made_it_last(client, name):
    assert registry.champion(client, "nobody's") is None
    assert registry.champion(client, name) is None
    for _ in range(2):
        add(client, name)
    for number in ("2", "1"):
        registry.set_champion(client, client.get_model_version(name, number))
        assert str(registry.champion(client, name).version) == number
    assert registry.version_at(client, name, "other") is None


def test_a_version_is_known_by_all_tags_that_are_asked_for(client, name):
    add(client, name, **{MODEL_ID: "m"})
    add(client, name, **{MODEL_ID: "m", ALLOWED_URIS: NO_URIS, "BLEU": "3"})
    newest = add(client, name, **{MODEL_ID: "m", ALLOWED_URIS: NO_URIS})
    add(client, name, **{MODEL_ID: "other", ALLOWED_URIS: NO_URIS})
    known = registry.version_of(client, name, {MODEL_ID: "m", ALLOWED_URIS: NO_URIS})
    assert int(known.version) == newest
    assert registry.version_of(client, name, {MODEL_ID: "m", ALLOWED_URIS: "s3://bucket/"}) is None
    assert registry.version_of(client, name, {MODEL_ID: "nobody"}) is None


def test_a_model_is_registered_once_and_has_its_scores_as_tags(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)  # where MLflow looks for the logged model
    tags = {MODEL_ID: "m", ALLOWED_URIS: NO_URIS}
    logged = client.create_logged_model("0", "model", tags=tags)
    first = registry.register(client, "captioner", logged.model_id, {"CIDEr": "5"})
    assert (first.name, int(first.version), first.tags["CIDEr"], first.tags[MODEL_ID]) == ("captioner", 1, "5", "m")
    again = registry.register(client, "captioner", logged.model_id, {"CIDEr": "6"})
    assert (int(again.version), again.tags["CIDEr"]) == (1, "5")
    other = client.create_logged_model("0", "model", tags=tags | {ALLOWED_URIS: "s3://bucket/"})
    assert int(registry.register(client, "captioner", other.model_id, {}).version) == 2
