from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url, text

from pipelines.config.recipe import read_recipe
from pipelines.errors import UserError
from pipelines.tracking.address import as_address, database_of, from_root, option_for, registry_uri, tracking_uri

DATA = ("data.store=s", "data.captions=c")
WITH_SECRETS = (
    "http://user:hunter2@host:5000",
    "https://user:hun/ter2@host",
    "https://hunter2@host/mlflow",
    "postgresql://user:hunter2@db:5432/mlflow",
    "mysql+pymysql://user:hun@ter2@db/mlflow",
    "postgresql://db/mlflow?user=me&password=hunter2",
    "https://host/?token=hunter2",
    "mssql://db/x?Secret_Key=hunter2",
)
WITHOUT = (
    "http://host:5000", "http://host:5000/a@b:c", "https://host", "postgresql://user@db:5432/mlflow", "databricks://me",
    "sqlite:////tmp/a:b@c/mlflow.db", "sqlite:///mlflow.db?timeout=3", "http://[::1]:5000", "databricks",
)  # fmt: skip


@pytest.mark.parametrize("uri", WITH_SECRETS)
def test_a_password_is_refused_wherever_an_address_may_come_from_and_never_shown(uri, monkeypatch, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "system: show_tell\ndata: {store: s, captions: c, output: pooled}\ntraining: {epochs: 1}\n"
        f"tracking: {{uri: '{uri}'}}\n"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", uri)
    for read in (
        lambda: read_recipe(str(recipe)),
        lambda: read_recipe("show_tell.small", [*DATA, f"tracking.uri={uri}"]),
        lambda: read_recipe("show_tell.small", [*DATA, f"tracking={{uri: '{uri}'}}"]),
        lambda: tracking_uri(uri),
        tracking_uri,
        lambda: registry_uri("sqlite:///x.db") and registry_uri(),
    ):
        with pytest.raises(UserError, match=r"a password in it.* MLFLOW_TRACKING_PASSWORD") as caught:
            read()
        assert not any(part in str(caught.value) for part in ("hunter2", "ter2", "hun@"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(UserError, match="a password in it"):
        tracking_uri(fallback=uri)


@pytest.mark.parametrize("uri", WITHOUT)
def test_other_addresses_are_taken(uri):
    read_recipe("show_tell.small", [*DATA, f"tracking.uri={uri}"])
    tracking_uri(uri)


def test_which_address_it_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    assert tracking_uri() == registry_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking_uri(fallback="http://run") == "http://run"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    assert tracking_uri(fallback="http://run") == registry_uri() == "http://tracking"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://registry")
    assert (tracking_uri("http://given"), registry_uri("http://given")) == ("http://given", "http://given")
    assert (tracking_uri(), registry_uri()) == ("http://tracking", "http://registry")


def test_databases_are_named_from_the_root(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert from_root("sqlite:///a/../b.db?timeout=3") == f"sqlite:///{tmp_path}/b.db?timeout=3"
    assert from_root("sqlite:///~/x/mlflow.db") == "sqlite:////home/me/x/mlflow.db"
    assert from_root("sqlite+pysqlite:////tmp/x.db") == "sqlite+pysqlite:////tmp/x.db"
    for uri in ("sqlite://", "sqlite:///:memory:", "http://host/a/../b"):
        assert from_root(uri) == uri
    assert database_of("http://host/x.db") is None
    assert database_of("sqlite:////tmp/a%20b/x.db?timeout=3") == Path("/tmp/a b/x.db")


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=30)


@given(NAMES.filter(lambda name: name not in (".", "..")))
def test_a_folder_of_any_name_is_that_folder_to_sqlalchemy(name):
    uri = f"sqlite:///{as_address(f'/tmp/{name}/mlflow.db')}"
    assert from_root(uri) == uri
    assert make_url(uri).database == f"/tmp/{name}/mlflow.db" == str(database_of(uri))


@pytest.mark.parametrize("name", ["a b", "ü", "50%", "50%41", "a?b", "a#b", "a\nb", "写真"])
def test_the_database_comes_to_lie_in_the_current_folder(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with create_engine(tracking_uri()).begin() as connection:
        connection.execute(text("create table x (y int)"))
    assert Path("mlflow.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_printed_command_names_the_address_that_it_would_not_find_by_itself(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert option_for(f"sqlite:///{tmp_path}/mlflow.db") == ""
    assert option_for("sqlite:////else where/s.db") == " --tracking-uri 'sqlite:////else where/s.db'"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert option_for("http://tracking:5000") == ""
