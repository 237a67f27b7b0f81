"""The sections of a recipe: values that fit no key alone, or not together."""

import pytest

from pipelines.config.recipe import read_recipe
from pipelines.config.sections import ClusterSection, local, masked, model_name, no_password, number, uri_prefix
from pipelines.errors import UserError

DATA = ("data.store=features", "data.captions=captions.jsonl")
TEXT = ("data.source=train.en", "data.target=train.de", "data.validation_source=val.en")


def test_text_for_a_captioner_and_pictures_for_a_translator_are_one_mistake():
    with pytest.raises(UserError, match=r"gives text \(data\.source\) to show_tell, .* encdec, "):
        read_recipe("show_tell.small", TEXT)
    with pytest.raises(UserError, match=r"gives pictures \(data\.captions\) to gnmt, .* show_tell"):
        read_recipe("gnmt.small", DATA)


def test_shared_embeddings_need_a_joint_vocabulary():
    with pytest.raises(UserError, match=r"share_embeddings is true, which needs one vocabulary: text\.joint=true"):
        read_recipe("encdec.small", [*TEXT, "text.joint=false"])


def test_a_count_is_refused_where_nothing_is_counted():
    with pytest.raises(UserError, match=r"text: min_count is 2, but level is unigram"):
        read_recipe("encdec.small", [*TEXT, "text.level=unigram", "text.min_count=2"])
    assert read_recipe("encdec.small", [*TEXT, "text.level=bpe", "text.min_count=2"]).text.min_count == 2
    assert read_recipe("encdec.small", [*TEXT, "text.level=unigram"]).text.level == "unigram"


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("0x40", 64), ("1e-3", 0.001), (" 3", None), ("1_000", None)])
def test_a_number_is_one_of_yaml(text, value):
    if value is None:
        with pytest.raises(ValueError, match="expected a number"):
            number(text)
    else:
        assert number(text) == value


def test_true_is_no_number():
    with pytest.raises(ValueError, match="found true or false, expected a number"):
        number(True)


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:secret@host/",
        "https://secret@host",
        "postgresql://me:secret@host:5432/db",
        "http://host/?token=secret",
        "mysql://host/db?password=secret",
    ],
)
def test_a_password_in_an_address_is_refused_without_repeating_it(uri):
    with pytest.raises(ValueError, match="an address with a password in it") as caught:
        no_password(uri)
    assert "secret" not in str(caught.value) and "secret" not in masked(uri)


@pytest.mark.parametrize("uri", ["http://host:5000", "sqlite:///mlflow.db", "https://host/a@b", "databricks"])
def test_an_address_without_one_is_taken(uri):
    assert no_password(uri) == uri


def test_fewer_workers_at_least_than_at_most():
    assert ClusterSection(workers=2, min_workers=2).min_workers == 2
    with pytest.raises(ValueError, match="min_workers is 3, more than workers, 2"):
        ClusterSection(workers=2, min_workers=3)


def test_folders_are_local_and_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert local("~/run") == "/home/me/run"
    with pytest.raises(ValueError, match="found s3://b/run, expected a local folder"):
        local("s3://b/run")


@pytest.mark.parametrize("prefix", ["https://host/photos/", "s3://bucket/", "gs://bucket/a/"])
def test_what_a_served_model_may_be_allowed(prefix):
    assert uri_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["https://host", "file:///etc/", "s3://", "http://me@host/", "https://host/?a"])
def test_what_it_may_not(prefix):
    with pytest.raises(ValueError, match="expected https://HOST/"):
        uri_prefix(prefix)


def test_names_of_registered_models():
    assert model_name("my model-1.0") == "my model-1.0"
    with pytest.raises(ValueError, match="expected a name of letters"):
        model_name("a/b")
