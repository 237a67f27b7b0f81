"""``rnncond recipes``, and ``--cfg`` of ``train`` and ``tune``."""

from __future__ import annotations

import json
import subprocess
import sys

from pipelines.config.choices import recipe_names
from pipelines.config.recipe import read_recipe
from pipelines.config.search_space import read_search
from tests.worlds.command import check_mistake, rnncond

GIVEN = ["data.store=s", "data.captions=c.jsonl"]


def test_the_recipes_are_listed(capsys):
    assert rnncond("recipes") == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()] == recipe_names()
    assert rnncond("recipes", "list") == 0
    assert capsys.readouterr().out == shown


def test_to_list_them_loads_no_torch():
    code = "from pipelines.cli import main; main.main(['recipes', 'list'])"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    assert "show_tell.small" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "ray", "mlflow"}


def test_the_keys_of_one_are_shown(capsys):
    assert rnncond("recipes", "show", "show_tell.small") == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("training.images_per_batch = 32")
    assert lines[at + 1].strip() == "whole number, at least 1; default: 64"
    assert "data.store (to be given)" in lines
    assert "seed (default: 1)" in lines
    assert rnncond("recipes", "show", "show_tell.small", "--json") == 0
    keys = json.loads(capsys.readouterr().out)["keys"]
    assert {"path", "type", "default", "value", "meaning"} == set(keys[0])
    check_mistake(["recipes", "show", "show_tel.small"], "no recipe | show_tell.small", capsys)


def test_the_resolved_recipe_is_printed_and_is_a_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert rnncond("train", "show_tell.small", *GIVEN, "training.epochs=3", "--out", "elsewhere", "--cfg") == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    printed = read_recipe("printed.yaml")
    assert printed == read_recipe("show_tell.small", [*GIVEN, "training.epochs=3"], "elsewhere")
    assert printed.training.epochs == 3
    assert rnncond("tune", "show_tell.small", *GIVEN, "tune.trials=4", "--cfg") == 0
    (tmp_path / "search.yaml").write_text(capsys.readouterr().out)
    assert read_search("search.yaml").settings.trials == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["printed.yaml", "search.yaml"], "nothing is begun"
    check_mistake(["train", "show_tell.small", "training.epoch=3", "--cfg"], "training.epoch: | epochs", capsys)
