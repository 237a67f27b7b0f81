import hashlib
import shlex
from importlib import metadata
from pathlib import Path

import pytest

from pipelines.cli.commands import values_of
from pipelines.config.recipe import read_recipe
from pipelines.errors import OtherRun, UserError
from pipelines.training.driver import (
    MAY_CHANGE,
    changed_keys,
    check_system,
    data_files,
    next_steps,
    refuse_changed_text,
    refuse_other_data,
    thrown_away,
    tracked_at,
    versions,
)
from rnncond import systems
from tests.worlds import corpora

FOLDER = Path("runs/one")
BEFORE = {"seed": 1, "cluster.workers": 1, "data.store": "/a", "model.hidden": 8, "out": "/here"}


def test_a_run_may_be_resumed_elsewhere_and_with_other_workers():
    after = BEFORE | {"cluster.workers": 2, "data.store": "/b", "out": "/there"}
    changed = changed_keys(FOLDER, BEFORE, after, MAY_CHANGE, "run of another recipe")
    assert sorted(changed) == ["cluster.workers", "data.store", "out"]
    assert changed_keys(FOLDER, BEFORE, BEFORE, MAY_CHANGE, "run of another recipe") == []


def test_every_key_is_told_in_which_another_recipe_differs():
    after = BEFORE | {"seed": 2, "cluster.workers": 2, "model.layers": 3}
    del after["model.hidden"]
    with pytest.raises(OtherRun) as caught:
        changed_keys(FOLDER, BEFORE, after, MAY_CHANGE, "search of another recipe")
    assert str(caught.value) == (
        "runs/one holds a search of another recipe:\n  seed: was 1, is 2\n  model.hidden: was 8, is None\n"
        "  model.layers: was None, is 3\nChoose another --out, or give --restart to begin again."
    )


def test_other_data_are_refused_with_the_version_where_another_began_the_run():
    info = {"schema": 1, "data_id": "x", "started": "yesterday", "versions": versions()}
    refuse_other_data(FOLDER, {}, "y", {})
    refuse_other_data(FOLDER, info, "x", {})
    with pytest.raises(OtherRun, match="begun with other data: they have changed since yesterday"):
        refuse_other_data(FOLDER, info, "y", {})
    present = metadata.version("rnncond")
    with pytest.raises(OtherRun, match=rf"begun by rnncond 7.0, and its data are others to rnncond {present}"):
        refuse_other_data(FOLDER, info | {"versions": {"rnncond": "7.0"}}, "y", {})
    old = {"data_id": "x", "started": "yesterday", "versions": {"rnncond": "0.1.0"}}
    with pytest.raises(OtherRun, match=r"begun by rnncond 0\.1\.0, which wrote vocabularies in another format"):
        refuse_other_data(FOLDER, old, "y", {})


def test_a_file_that_has_changed_is_named_before_anything_is_prepared(tmp_path):
    text = [*corpora.make_text(tmp_path), *corpora.TINY]
    recipe = read_recipe("encdec_attention.small", text, "run")
    info = {"schema": 1, "data_id": "x", "data_files": data_files(recipe)}
    refuse_changed_text(FOLDER, info, recipe, data_files(recipe))
    target = Path(recipe.data.target)
    size, sha256 = target.stat().st_size, hashlib.sha256(target.read_bytes()).hexdigest()
    with open(target, "a") as file:
        file.write("noch eins\n")
    with pytest.raises(OtherRun) as caught:
        refuse_changed_text(FOLDER, info, recipe, data_files(recipe))
    assert f"data.target: was {target} of {size:,} bytes (SHA-256 {sha256[:12]}...), is {target} of" in str(
        caught.value
    )
    assert "data.source" not in str(caught.value) and "Put back what was there" in str(caught.value)
    refuse_changed_text(FOLDER, {"schema": 1, "data_id": "x"}, recipe, data_files(recipe))  # an older run
    with pytest.raises(OtherRun, match=r"data\.target: was"):
        refuse_other_data(FOLDER, info, "y", data_files(recipe))


def test_a_damaged_run_may_be_thrown_away(tmp_path):
    assert thrown_away(tmp_path) == {}
    for content in ('{"status": "fini', '{"schema": 99}'):
        (tmp_path / "run.json").write_text(content)
        assert thrown_away(tmp_path) == {}


def test_mlflows_address_is_an_override_that_holds_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracked_at(None, ("seed=2",)) == ["seed=2"]
    assert tracked_at("sqlite:///a=b.db", ()) == [f"tracking.uri=sqlite:///{tmp_path}/a=b.db"]


def test_a_system_that_cannot_be_made_is_told_before_anything_else(tmp_path, monkeypatch):
    """As a user's own may be: the recipe is right, and its code is not."""
    recipe = read_recipe("show_tell.small", ["data.store=s", "data.captions=c"])
    check_system(recipe)

    def broken(self, config):
        raise ZeroDivisionError("by my mistake")

    monkeypatch.setattr(systems.find("show_tell").Model, "__init__", broken)
    with pytest.raises(UserError, match=r"show_tell cannot be made .* ZeroDivisionError: by my mistake \(.*line \d+\)"):
        check_system(recipe)


def test_the_next_steps_are_commands_that_are_understood_as_printed():
    folder, recipe = Path("runs/my run"), read_recipe("show_tell.small", ["data.store=s", "data.captions=c"])
    registered = {"registered": {"uri": "models:/small@champion"}}
    lines = [line.removeprefix("Next:").strip() for line in next_steps(folder, registered, recipe).splitlines()]
    parsed = [values_of(shlex.split(line)[1:]) for line in lines]
    assert [line.split()[1] for line in lines] == ["evaluate", "report", "caption"]
    assert parsed[0][1]["model"] == parsed[1][1]["out"] == str(folder)
    assert parsed[2][1]["model"] == "models:/small@champion" and parsed[2][1]["weights"] == "FILE"
    recipe = read_recipe("show_tell.small", ["data.store=s", "data.captions=c", "tracking.backbone_weights=w.pth"])
    assert "--weights" not in next_steps(folder, registered, recipe)
    assert next_steps(folder, {}, recipe).count("rnncond") == 2
