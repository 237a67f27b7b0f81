"""Each captioner learns to name all that a picture shows, also of groups that it has never seen.

``pipelines.demo.world`` is drawn once and the features of its CNN are computed once. A picture counts if its
greedy caption names count, size, colour, shape and place of every group and nothing else. All held-out pictures show
held-out groups alone, most of them one. The systems that see only the mean of the grid tell these nearly as well as the
others do, since a cell's features tell its place; of two groups the mean does not keep which shape is in which place,
so most of those few are beyond them. The table has them apart.
"""

from __future__ import annotations

import json

import pytest

from pipelines.config.recipe import read_recipe
from pipelines.demo import world
from pipelines.files.jsonl import read_lines
from pipelines.training.data.task import prepare
from pipelines.training.learner import Learner
from pipelines.training.run.folder import RunFolder
from pipelines.verbs import demo, features

POOLED = "model={embedding: 128, hidden: 256, dropout: 0.2}"
WIDER = "model={embedding: 256, hidden: 256, dropout: 0.1}"
ATTENDING = "model={embedding: 128, hidden: 256, attention: 128, dropout: 0.2}"
HARD = ATTENDING.replace("}", ", attention_kind: hard}")
SLOWER = ("training.learning_rate=2e-3", "training.clip_norm=1")

CASES = {
    "encdec_image": ("encdec_image", "pooled", 8, POOLED),
    "mrnn": ("mrnn", "pooled", 8, POOLED),
    "show_tell": ("show_tell", "pooled", 10, WIDER, *SLOWER),
    "show_attend_tell soft": ("show_attend_tell", "grid", 3, ATTENDING),
    "show_attend_tell hard": ("show_attend_tell", "grid", 4, HARD),
    "top_down": ("top_down", "grid", 3, ATTENDING),
}
"""System, features and epochs; and what the recipe ``demo`` has otherwise."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, ray_cluster):
    """A folder with world/ and store/."""
    folder = tmp_path_factory.mktemp("learn")
    subject = demo.make_world(folder, seed=0)
    features.run(str(subject.data), str(folder / "store"), subject.backbone, str(subject.weights))
    return folder


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("name", CASES)
def test_learns_to_tell_what_it_sees(name, drawn, tmp_path, learnt):
    system, output, epochs, *otherwise = CASES[name]
    settings = [
        f"system={system}",
        *otherwise,
        f"data.store={drawn / 'store'}",
        f"data.captions={drawn / 'world' / 'captions.jsonl'}",
        f"data.output={output}",
        "data.validation=test",
        f"training.epochs={epochs}",
        f"training.validate_every={epochs}",  # what is held out chooses no epoch
        f"training.samples={demo.PICTURES['test']}",
    ]
    recipe = read_recipe("demo", settings, str(tmp_path))
    journal = RunFolder(tmp_path)
    journal.open(recipe.to_yaml(), {})
    Learner(prepare(recipe)[0], journal).run()

    scenes = json.loads((drawn / "world" / "world.json").read_text("utf-8"))["scenes"]
    right: dict[int, list[bool]] = {1: [], 2: []}
    for sample in read_lines(tmp_path / "samples.jsonl"):
        shown = tuple(world.Group(*group) for group in scenes[sample["image_id"]])
        right[len(shown)].append(world.attributes(sample["caption"]) == shown)
    told = right[1] + right[2]
    assert len(told) == demo.PICTURES["test"]
    share = sum(told) / len(told)
    learnt(name, share, f"{len(told)} held-out pictures; {sum(right[2])} of the {len(right[2])} with two groups")
    assert share >= 0.8
