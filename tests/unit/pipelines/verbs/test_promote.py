"""Promotion: a version once, the champion only by a better score on the same data."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest

from pipelines.config.recipe import read_recipe
from pipelines.errors import Fault, UserError
from pipelines.evaluation import output
from pipelines.features import backbones
from pipelines.tracking import registry
from pipelines.tracking.client import IMPATIENT
from pipelines.tracking.models import locate, weights_in
from pipelines.training.run.info import read_run
from pipelines.verbs import evaluate, promote
from rnncond import checkpoint
from tests.worlds.captioner import BACKBONE, model_reading, weights_file
from tests.worlds.translator import PAIRS, make_translator, write_text

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = mlflow.MlflowClient(uri, uri)
    client.create_experiment(promote.EXPERIMENT, (folder / "artifacts").as_uri())
    return client


@pytest.fixture
def name(client, request, tmp_path, monkeypatch):
    """A registered model of the test's own."""
    for key, value in IMPATIENT.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    monkeypatch.chdir(tmp_path)
    return request.node.name


@pytest.fixture
def make(tmp_path):
    """A function that makes a run's folder with a model of so much BLEU on its validation data."""
    source = write_text(tmp_path / "val.en", PAIRS)
    target = write_text(tmp_path / "val.de", PAIRS.values())
    data = {"validation_source": str(source), "validation_target": str(target), "validation_lines": None,
            "columns": ["source", "target"]}  # fmt: skip

    def made(seed: int, bleu: float, **run) -> str:
        trained = make_translator(None, seed=seed)
        trained.info["recipe"] |= {"data": data, "training": {"early_stopping": {"metric": "BLEU"}}}
        trained.info |= {"epoch": 3, "val_loss": 7.0, "BLEU": bleu}
        checkpoint.save(trained, tmp_path / str(seed) / "best")
        (tmp_path / str(seed) / "run.json").write_text(json.dumps(run))
        return str(tmp_path / str(seed))

    return made


def test_by_the_scores_of_training(client, name, make, tmp_path):
    def promoted(run, **options):
        verdict = promote.run(model=run, name=name, **options).summary["verdict"]
        versions = len(client.search_model_versions(f"name = '{name}'"))
        return verdict, versions, int(client.get_model_version_by_alias(name, "champion").version)

    experiment = client.create_experiment(name, (tmp_path / "artifacts").as_uri())
    first = make(1, 20.0, mlflow_run_id=client.create_run(experiment).info.run_id)
    assert promoted(first) == ("it is the champion, the first, with BLEU 20", 1, 1)
    champion = client.get_model_version(name, "1")
    assert champion.run_id == read_run(first)["mlflow_run_id"]
    assert promoted(first) == ("it is the champion already", 1, 1)
    worse, better = make(2, 19.5), make(3, 21.0)
    for _ in range(2):  # a version only once
        assert promoted(worse) == ("not the champion: BLEU 19.5 against 20 of version 1", 2, 1)
    assert promoted(better) == ("it is the champion: BLEU 21 against 20 of version 1", 3, 3)
    found = checkpoint.load(locate(f"models:/{name}@champion"))
    assert found.model_id == checkpoint.load(f"{better}/best").model_id

    # The lower loss is the better one.
    other = make(4, 22.0)
    assert promoted(other)[2] == 4
    with pytest.raises(UserError, match="not scored by loss on the same data"):
        promoted(better, metric="loss")
    with pytest.raises(UserError, match="--metric CIDEr: training recorded no such score; there are BLEU, val_loss"):
        promoted(better, metric="CIDEr")


def test_the_champion_is_no_excuse_for_mistakes(name, make, tmp_path):
    """Else they would be told on the day on which another model comes."""
    run = make(1, 20.0)
    promote.run(model=run, name=name)
    (tmp_path / "de.txt").write_text("eins\n")
    data = {"data": [str(tmp_path / "de.txt")], "source": str(tmp_path / "de.txt")}
    assert promote.run(model=run, name=name, metric="chrF", **data).summary["verdict"] == "it is the champion already"
    with pytest.raises(UserError, match="--metric CIDEr: training recorded no such score"):
        promote.run(model=run, name=name, metric="CIDEr")
    with pytest.raises(UserError, match="--metric BLUE: there is no such score; there are BLEU, chrF, TER"):
        promote.run(model=run, name=name, metric="BLUE", **data)
    with pytest.raises(UserError, match="nofile"):
        promote.run(model=run, name=name, data=[str(tmp_path / "nofile")], source=data["source"])
    with pytest.raises(UserError, match="Say --source FILE, too"):
        promote.run(model=run, name=name, data=data["data"])


def test_the_way_back_to_an_earlier_version_is_one_command(client, name, make):
    for seed, bleu in ((1, 20.0), (2, 21.0)):
        promote.run(model=make(seed, bleu), name=name)

    def back_to(model, **options):
        verdict = promote.run(model=model, name=name, **options).summary["verdict"]
        versions = len(client.search_model_versions(f"name = '{name}'"))
        return verdict, versions, int(client.get_model_version_by_alias(name, "champion").version)

    refused = "not the champion: BLEU 20 against 21 of version 2; --anyway without --data makes it the champion"
    assert back_to(f"models:/{name}/1") == (refused, 2, 2)
    assert back_to(f"models:/{name}/1", anyway=True) == (
        "it is the champion, as --anyway asks, in place of version 2", 2, 1
    )  # fmt: skip
    assert back_to(f"models:/{name}@champion", anyway=True) == ("it is the champion already", 2, 1)
    assert back_to(f"models:/{name}/2") == ("it is the champion: BLEU 21 against 20 of version 1", 2, 2)


def test_the_next_command_says_where_the_model_is(client, name, make, tmp_path, monkeypatch):
    known = promote.run(model=make(1, 20.0), name=name)
    assert known.hint == f"Next: rnncond translate TEXT --model models:/{name}@champion --out output"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    hint = promote.run(model=make(1, 20.0), name=name, tracking_uri=client.tracking_uri).hint
    there = f"--tracking-uri {client.tracking_uri}"
    assert hint == f"Next: rnncond translate TEXT --model models:/{name}@champion {there} --out output"


def test_a_training_without_a_score_is_no_mistake(client, name, make):
    run = make(1, 20.0)
    trained = checkpoint.load(f"{run}/best")
    del trained.info["BLEU"]
    checkpoint.save(trained, f"{run}/best")
    assert promote.run(model=run, name=name).summary["verdict"] == "it is the champion, the first"
    with pytest.raises(UserError, match=r"is registered; whether it beats .* is not known.*--data FILE"):
        promote.run(model=make(2, 20.0), name=name)


def test_a_model_is_loaded_once_and_what_chose_its_epoch_is_told(client, name, make, tmp_path, monkeypatch):
    """The pairs are those that the training validated on, so all of them chose the epoch, of both models."""
    loaded = []

    def load(folder, *device):
        loaded.append(str(folder))
        return read(folder, *device)

    read = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", load)
    given = {"source": str(tmp_path / "val.en"), "data": [str(tmp_path / "val.de")], "beam": 2}
    first = promote.run(model=make(1, 20.0), name=name, **given)
    assert loaded == [str(tmp_path / "1" / "best")]
    warning = f"{len(PAIRS)} of {len(PAIRS)} sentences: of new sentences expect less"
    assert first.summary["also chose the epoch"] == warning
    assert "champion also chose the epoch" not in first.summary
    second = promote.run(model=make(2, 20.0), name=name, anyway=True, **given)
    assert second.summary["champion also chose the epoch"] == second.summary["also chose the epoch"] == warning


def test_scores_of_other_data_do_not_compare(client, name, make, tmp_path):
    promote.run(model=make(1, 20.0), name=name)
    write_text(tmp_path / "val.de", list(PAIRS.values())[::-1])
    with pytest.raises(UserError, match=r"version 2 is registered.* not scored by BLEU on the same data.*--data FILE"):
        promote.run(model=make(2, 90.0), name=name)
    assert client.get_model_version_by_alias(name, "champion").version == 1


def test_by_scores_on_data_that_are_given(client, name, make, tmp_path):
    """Whatever training said: chrF of both, as `rnncond evaluate` finds it."""
    given = {"source": str(tmp_path / "val.en"), "data": [str(tmp_path / "val.de")], "beam": 2}
    runs = [make(1, 50.0), make(2, 1.0)]
    scores = []
    for run in runs:
        evaluate.run(model=run, out=str(tmp_path / "scored"), **given)
        scores.append(json.loads((tmp_path / "scored" / output.SUMMARY).read_text())["scores"]["chrF"])
    assert scores[0] != scores[1]
    for run in runs:
        promote.run(model=run, name=name, metric="chrF", anyway=True, **given)
    best = runs[scores.index(max(scores))]
    found = client.get_model_version_by_alias(name, "champion")
    assert found.tags["rnncond.model_id"] == checkpoint.load(f"{best}/best").model_id
    assert float(found.tags["chrF"]) == max(scores)


def test_after_a_promotion_by_other_data_the_scores_of_training_compare_as_before(client, name, make, tmp_path):
    given = {"source": str(tmp_path / "val.en"), "data": [str(tmp_path / "val.de")], "beam": 2}
    promote.run(model=make(1, 20.0), name=name, **given)
    verdict = promote.run(model=make(2, 21.0), name=name).summary["verdict"]
    assert verdict == "it is the champion: BLEU 21 against 20 of version 1"
    assert promote.run(model=make(3, 20.5), name=name).summary["verdict"].startswith("not the champion: BLEU 20.5")


def test_a_gain_that_may_be_noise_makes_no_champion(client, name, make, tmp_path, monkeypatch):
    """Scores of two models of which the second is better by chance, or by far."""
    rows = {"far": [80.0] * 40, "near": [50.0, 51.2] * 20, "base": [51.0, 50.0] * 20}
    runs = {which: make(seed, 20.0) for seed, which in enumerate(rows, 1)}
    which_of = {checkpoint.load(locate(run)).model_id: which for which, run in runs.items()}

    def score(model, data, source, out, **options):
        values = rows[which_of[checkpoint.load(model).model_id]]
        scored = [{"image_id": f"{n}", "caption": "", "scores": {"CIDEr": value}} for n, value in enumerate(values)]
        Path(out, output.ROWS).write_text("".join(json.dumps(row) + "\n" for row in scored))
        Path(out, output.SUMMARY).write_text(json.dumps({"scores": {"CIDEr": sum(values) / len(values)}}))

    monkeypatch.setattr(evaluate, "run", score)
    given = {"data": [str(tmp_path / "val.de")], "metric": "CIDEr", "name": name}
    first = promote.run(model=runs["base"], **given).summary["verdict"]
    assert first == "it is the champion, the first, with CIDEr 50.5"
    refused = promote.run(model=runs["near"], **given)
    assert f"models:/{name}/2" in refused.hint and "@champion" not in refused.hint
    verdict = refused.summary["verdict"]
    assert verdict.startswith("not the champion: CIDEr 50.6 against 50.5") and "95% interval" in verdict
    assert client.get_model_version_by_alias(name, "champion").version == 1
    verdict = promote.run(model=runs["near"], anyway=True, **given).summary["verdict"]
    assert verdict.startswith("it is the champion") and "p = " in verdict
    assert "it is the champion: CIDEr 80" in promote.run(model=runs["far"], **given).summary["verdict"]


def test_a_champion_that_was_made_meanwhile_is_not_put_down_unjudged(client, name, make, monkeypatch):
    promote.run(model=make(1, 20.0), name=name)
    promote.run(model=make(2, 10.0), name=name)
    register = registry.register

    def register_while_another_promotes(*arguments):
        client.set_registered_model_alias(name, "champion", "2")
        return register(*arguments)

    monkeypatch.setattr(registry, "register", register_while_another_promotes)
    with pytest.raises(Fault, match="changed by somebody else"):
        promote.run(model=make(3, 30.0), name=name)
    assert client.get_model_version_by_alias(name, "champion").version == 2


@pytest.mark.parametrize("bad", ["a/b", "a:b", "it's", ""])
def test_a_name_that_no_registered_model_may_have(bad, name, make):
    with pytest.raises(UserError, match="--name: found"):
        promote.run(model=make(1, 2.0), name=bad)
    with pytest.raises(UserError, match=r"tracking\.registered_model: found"):
        read_recipe("show_tell.small", ["data.store=s", "data.captions=c", f"tracking.registered_model={bad!r}"])


def test_what_cannot_be_promoted(name, make, tmp_path):
    with pytest.raises(UserError, match="say --data FILE"):
        promote.run(model=make(1, 2.0), name=name, split="test")
    with pytest.raises(UserError, match="There is no model"):
        promote.run(model="nowhere", name=name)
    with pytest.raises(UserError, match="cannot be used"):
        promote.run(model=make(1, 2.0), name=name, tracking_uri="sqlite:////proc/nothing/mlflow.db")


def test_a_model_without_a_recipe_is_judged_by_data_alone(name, tmp_path):
    trained = make_translator(None)
    trained.info.pop("recipe")
    checkpoint.save(trained, tmp_path / "bare")
    with pytest.raises(UserError, match=r"without a recipe.*Give --data"):
        promote.run(model=str(tmp_path / "bare"), name=name)


def test_weights_given_later_travel_with_the_champion(client, name, tmp_path):
    weights = weights_file(tmp_path)
    trained = model_reading(tmp_path / "best", "show_tell", "pooled", backbones.load(BACKBONE, str(weights)).recipe)
    trained.info |= {"recipe": {**trained.info["recipe"], "data": {}}, "CIDEr": 9.0}
    checkpoint.save(trained, tmp_path / "best")

    def promoted(**options):
        summary = promote.run(model=str(tmp_path / "best"), name=name, metric="CIDEr", **options).summary
        return summary["version"], summary["verdict"]

    assert promoted() == (1, "it is the champion, the first, with CIDEr 9")
    assert weights_in(locate(f"models:/{name}@champion")) is None
    for _ in range(2):
        version, _ = promoted(weights=str(weights))
        assert version == 2
        assert Path(weights_in(locate(f"models:/{name}@champion"))).name == "own.safetensors"
    assert promoted() == (2, "it is the champion already")
    with pytest.raises(UserError, match="The model was trained on the features"):
        promote.run(model=str(tmp_path / "best"), name=name, metric="CIDEr", weights="random")


def test_a_served_champion_opens_what_the_last_promotion_allowed(client, name, tmp_path):
    recipe = backbones.load(BACKBONE, "random").recipe
    trained = model_reading(tmp_path / "best", "show_tell", "pooled", recipe)
    trained.info |= {"recipe": {**trained.info["recipe"], "data": {}}, "CIDEr": 9.0}
    checkpoint.save(trained, tmp_path / "best")

    def promoted(**options):
        summary = promote.run(model=str(tmp_path / "best"), name=name, metric="CIDEr", **options).summary
        served = mlflow.pyfunc.load_model(client.get_model_version_download_uri(name, str(summary["version"])))
        return summary["version"], summary["verdict"], served.model_config["allowed_uris"]

    both = ["s3://bucket/photos/", "https://host/"]
    assert promoted() == (1, "it is the champion, the first, with CIDEr 9", [])
    opening = "it is the champion as before, now opening s3://bucket/photos/ and https://host/ when served"
    assert promoted(allow_uri=both) == (2, opening, both)
    assert promoted(allow_uri=both) == (2, "it is the champion already", both)
    assert promoted() == (1, "it is the champion as before, now opening no addresses when served", [])
    assert registry.champion(client, name).aliases == ["champion"]


@pytest.mark.parametrize("prefix", ["/data/", "https://host", "file:///data/"])
def test_prefixes_that_cannot_be_allowed(make, prefix):
    with pytest.raises(UserError, match=r"--allow-uri: found .*expected https://HOST"):
        promote.run(model=make(0, 5.0), name="translator", allow_uri=[prefix])


def test_a_translator_opens_nothing(client, name, make):
    with pytest.raises(UserError, match="--allow-uri: a translator opens no addresses"):
        promote.run(model=make(0, 5.0), name=name, allow_uri=["https://host/"])
