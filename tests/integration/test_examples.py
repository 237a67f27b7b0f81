"""The notebooks of examples/: every cell runs, in order, on what they ask for. Jupyter is not needed for that."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from pipelines.api import Figure
from pipelines.demo import cnn, world
from pipelines.engine.failures import Failures
from pipelines.features import backbones
from pipelines.features.featurizer import Featurizer, dataset_of, table_of
from pipelines.inputs.listing import Listing
from tests.worlds import captioner, translator

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """What `make demo` leaves, of untrained networks; and a translator."""
    folder = tmp_path / "demo"
    world.make(folder / "world", {"test": 4})
    network = backbones.load(cnn.BACKBONE, "random")
    weights = {name: tensor.contiguous() for name, tensor in network.trunk.network.state_dict().items()}
    save_file(weights, folder / "cnn.safetensors")
    network = backbones.load(cnn.BACKBONE, str(folder / "cnn.safetensors"))
    captioner.model_reading(folder / "run" / "best", "show_attend_tell", "grid", network.recipe)
    dataset = dataset_of(network, str(folder / "store"))
    (listed,) = Listing(str(folder / "world" / "images")).begin()
    unit = listed.append_column("tries", [np.zeros(listed.num_rows, np.int32)])
    ((images, outputs),) = Featurizer(network, 8, 1)(unit, Failures.before(unit))
    with dataset.begin() as term:
        table = table_of(images, outputs, dataset.schema)
        term.handle.commit(term.handle.part_name(table["image_id"].to_pylist()), table)
    translator.make_translator(tmp_path / "runs" / "encdec_bidirectional.small" / "best")
    monkeypatch.chdir(tmp_path)
    return folder


def run_notebook(path: Path) -> list[Any]:
    """Run the cells of a notebook; of each the value of its last expression, as Jupyter would show it."""
    module, shown = ModuleType("__main__"), []
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        body = ast.parse("".join(cell["source"]), f"{path.name}[{number}]").body
        last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), f"{path.name}[{number}]", "exec"), module.__dict__)
        shown.append(eval(compile(last, f"{path.name}[{number}]", "eval"), module.__dict__) if last else None)
    return shown


def test_the_quick_start_runs(demo, capsys):
    notebook = EXAMPLES / "quickstart.ipynb"
    shown = run_notebook(notebook)
    assert len(shown) == 8
    (figure,) = [value for value in shown if isinstance(value, Figure)]
    assert figure.svg.startswith("<svg ")
    assert len(shown[3]) == 3, "samples"
    assert list(shown[5].columns) == ["width", "height", "grid"]
    assert tuple(shown[6][1]) == (2, 5, 5, 256)
    assert len(capsys.readouterr().out.splitlines()) == 1 + 6 + 1 + 3, "caption, nbest, attention, translations"


def test_notebooks_are_kept_without_their_output():
    notebooks = sorted(EXAMPLES.glob("*.ipynb"))
    assert notebooks
    for notebook in notebooks:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), notebook.name
