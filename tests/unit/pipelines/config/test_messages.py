"""What is wrong with a recipe, in one message in the words of its user."""

import pytest
from pydantic import BaseModel, ValidationError

from pipelines.config.messages import describe, keys_in
from pipelines.config.recipe import CaptionRecipe, read_recipe
from pipelines.errors import UserError


def test_all_mistakes_are_told_at_once():
    overrides = [
        "trainng.epochs=3",
        "training.epochs=0",
        "model.hiden=4",
        "text.level=wrd",
        "model.dropout=true",
        "seed=x",
        "foo",
    ]
    with pytest.raises(UserError) as caught:
        read_recipe("show_tell.small", ["data.captions=captions.jsonl", *overrides])
    message = str(caught.value)
    for part in (
        "has 8 mistakes",
        "trainng: no such key", "Did you mean 'training'",
        "training.epochs: found 0, expected greater than or equal to 1",
        "model.hiden: no such key. Did you mean 'hidden'? There are embedding, hidden, dropout.",
        "text.level: found 'wrd', expected 'word', 'bpe', 'wordpiece' or 'unigram'. Did you mean 'word'",
        "model.dropout: found true or false, expected a number",
        "seed: found 'x', expected",
        "'foo': expected key.path=value",
        "data.store: missing",
    ):  # fmt: skip
        assert part in message


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ("system: encdec", ["data: missing; say it in the file, or add data.source=VALUE data.validation_source=VALUE",
                            "training: missing; say it in the file, or add training.epochs=VALUE to the command"]),
        ("system: show_tell\ndata: {store: a, output: pooled}\ntraining: {epochs: 1}",
         ["1 mistake:\n  data.captions: missing; say it in the file, or add data.captions=VALUE to the command"]),
        ("system: encdc\ndata: {source: a, validation_source: b}\ntraining: {epochs: 1}",
         ["1 mistake:\n  system: no system is called 'encdc'"]),
        ("system: encdec\ndata: {source: a, validation_source: b, columns: [a, b, c]}\ntraining: {epochs: 1}",
         ["data.columns: found ['a', 'b', 'c'], expected at most 2 of them"]),
        ("1: 2", ["1: no such key. There are system"]),
        ("? [1, 2]\n: 3", ["is not YAML", "a key is a list or a mapping, expected text"]),
    ],
)  # fmt: skip
def test_what_a_file_lacks_or_has_too_much(tmp_path, content, messages):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UserError) as caught:
        read_recipe(str(tmp_path / "mine.yaml"))
    assert all(message in str(caught.value) for message in messages)


def test_the_kind_of_a_section_is_no_part_of_a_path():
    assert keys_in(["training", "schedule", "cosine", "warmup_steps"]) == ["training", "schedule", "warmup_steps"]


def test_pydantics_own_words_speak_for_what_has_none_of_ours():
    class Small(BaseModel):
        size: bytes

    with pytest.raises(ValidationError) as caught:
        Small.model_validate({"size": 3})
    assert describe(caught.value.errors()[0], CaptionRecipe) == "size: found 3, expected a valid bytes"
