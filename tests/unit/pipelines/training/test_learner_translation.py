"""The training loop on text: it learns, goes on where it was killed, and keeps both vocabularies in the model."""

import pytest
import torch

from pipelines.config.recipe import read_recipe
from pipelines.files.jsonl import read_lines
from pipelines.training.data.tokens import source_tokens
from pipelines.training.learner import Learner
from rnncond.checkpoint import load
from rnncond.contract import Source
from rnncond.search import SearchOptions, search
from tests.worlds.corpora import LETTERS, TINY, make_text, reverse
from tests.worlds.engine import without_ray
from tests.worlds.training import learner_of, resumed_equals_unbroken

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with without_ray():
        yield make_text(tmp_path_factory.mktemp("text"), pairs=120)


def learner(world, out, *overrides, recipe="encdec_bidirectional.small") -> Learner:
    return learner_of(read_recipe(recipe, [*world, *TINY, *overrides], str(out)))


def test_interrupted_and_resumed_equals_unbroken_bit_for_bit(world, tmp_path):
    settings = ("training.checkpoint_steps=8", "data.memory_gb=0.000001")
    whole, _ = resumed_equals_unbroken(lambda out: learner(world, out, *settings), tmp_path, [4])
    assert len(whole.train.windows) > 1


def test_it_learns_and_the_model_has_both_vocabularies(world, tmp_path):
    sizes = ["model.embedding=32", "model.hidden=32", "model.attention=32", "model.readout=32", "model.dropout=0"]
    longer = ["training.epochs=30", "training.tokens_per_batch=80", "training.label_smoothing=0"]
    made = learner(world, tmp_path, *sizes, *longer)
    made.run()
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert lines[-1]["BLEU"] > 30 > lines[0]["BLEU"]
    assert lines[-1]["chrF"] > lines[0]["chrF"]
    sample = read_lines(tmp_path / "samples.jsonl")[-1]
    assert sample["references"] == [reverse(sample["source"])]
    trained = load(tmp_path / "last")
    assert trained.features is None
    source = Source(torch.tensor(source_tokens(trained.source_vocabulary, [sample["source"]])))
    memory = trained.model.encode(source)
    options = SearchOptions(**made.recipe.search)
    found = search(trained.model.step, memory, trained.model.init_state(memory), options)
    assert trained.vocabulary.decode(found.tokens[0, 0].tolist()) == sample["translation"]


@pytest.mark.parametrize("system", ["encdec", "encdec_attention", "encdec_residual", "gnmt"])
def test_the_other_translators_train(world, tmp_path, system):
    lacking = {"encdec": ("model.attention", "model.readout"), "gnmt": ("model.readout",)}.get(system, ("none",))
    tiny = [setting for setting in TINY if not setting.startswith(lacking)]
    learner_of(read_recipe(f"{system}.small", [*world, *tiny, "training.epochs=2"], str(tmp_path))).run()
    first, last = read_lines(tmp_path / "metrics.jsonl")
    assert last["train_loss"] < first["train_loss"]


def test_separate_vocabularies_and_another_run_share_the_store(world, tmp_path):
    apart = ("text.joint=false", "model.share_embeddings=false", "model.tie_embeddings=false", "training.epochs=1")
    made = learner(world, tmp_path, *apart)
    again = learner(world, tmp_path / "again", *apart)
    assert made.task.data_id == again.task.data_id
    assert made.task.sizes()["source_vocab_size"] == 4 + len(LETTERS)
    made.run()
    assert load(tmp_path / "last").source_vocabulary is not None
