"""The example of docs/adding_a_system.md, taken out of the page: it is found, keeps the laws, and trains."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from pipelines.config.recipe import read_recipe
from pipelines.errors import UserError
from pipelines.files.jsonl import read_lines
from pipelines.training.data.task import prepare
from pipelines.training.learner import Learner
from pipelines.training.run.folder import RunFolder
from rnncond import systems
from rnncond.checkpoint import load
from tests.contract import cases, laws

ROOT = Path(__file__).parent.parent.parent
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "adding_a_system.md").read_text("utf-8"), re.DOTALL)


def block(language: str, beginning: str) -> str:
    (found,) = [text for kind, text in BLOCKS if kind == language and text.startswith(beginning)]
    return found


SYSTEM, RECIPE = block("python", '"""Par-inject'), block("yaml", "#")
COMMAND, CASE = block("sh", "PYTHONPATH"), eval(block("python", "Case("), vars(cases))


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """Where the files of the page lie, and whence Python imports."""
    folder = tmp_path_factory.mktemp("adding")
    (folder / "mylab").mkdir()
    (folder / "mylab" / "par_inject.py").write_text(SYSTEM, "utf-8")
    (folder / "par_inject.yaml").write_text(RECIPE, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    for name in ("mylab", "mylab.par_inject"):
        sys.modules.pop(name, None)


def test_the_page_has_no_block_that_is_not_run():
    assert [kind for kind, _ in BLOCKS] == ["python", "yaml", "sh", "python"]


@pytest.mark.parametrize("device", laws.DEVICES)
@pytest.mark.parametrize("law", laws.of(CASE), ids=lambda law: law.__name__)
def test_the_example_keeps_the_law(law, device):
    law(CASE, device)


def test_the_command_and_the_recipe_fit(folder, monkeypatch):
    monkeypatch.chdir(folder)
    _, program, verb, name, *overrides = shlex.split(COMMAND)
    assert (program, verb) == ("rnncond", "train")
    recipe = read_recipe(name, overrides)
    assert recipe.system == "mylab.par_inject"
    assert recipe.out == "runs/par_inject"
    with pytest.raises(UserError, match="Did you mean 'hidden'"):
        read_recipe(name, [*overrides, "model.hiden=9"])
    with pytest.raises(UserError, match=r"dropout is 1\.5"):
        read_recipe(name, [*overrides, "model.dropout=1.5"])


@pytest.mark.heavy
def test_it_trains_and_is_saved_and_read_again(folder):
    from tests.worlds.training import TINY, make_world

    world = make_world(folder)
    settings = ("training.epochs=8", "model.hidden=32", "training.learning_rate=0.03", "model.dropout=0")
    recipe = read_recipe(str(folder / "par_inject.yaml"), [*world, *TINY, *settings], str(folder / "run"))
    journal = RunFolder(folder / "run")
    journal.open(recipe.to_yaml(), {})
    Learner(prepare(recipe)[0], journal).run()
    losses = [line["train_loss"] for line in read_lines(folder / "run" / "metrics.jsonl")]
    assert losses[-1] < 0.5 * losses[0]
    trained = load(folder / "run" / "best")
    assert trained.system == "mylab.par_inject"
    assert type(trained.model).__module__ == "mylab.par_inject"


@pytest.mark.parametrize("name", ["mylab.no_such_system", "nowhere.par_inject"])
def test_a_module_that_is_not_there_is_told_in_words(name):
    with pytest.raises(ValueError, match=rf"no system is called '{name}'.*PYTHONPATH"):
        systems.find(name)


def test_a_module_that_is_no_system_is_told_in_words():
    with pytest.raises(ValueError, match=r"email\.message has no Config"):
        systems.find("email.message")


def test_a_broken_import_inside_a_system_is_shown_as_it_is(folder):
    (folder / "mylab" / "broken.py").write_text("import no_such_library")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        systems.find("mylab.broken")
