"""A recipe's task is that of its kind."""

from __future__ import annotations

import pytest

from pipelines.config.recipe import CaptionRecipe, Recipe, TranslationRecipe
from pipelines.training.data import caption_task, translation_task
from pipelines.training.data.task import prepare


def test_each_recipe_is_prepared_by_its_own_kind(monkeypatch):
    monkeypatch.setattr(caption_task, "prepare", lambda recipe: "captions")
    monkeypatch.setattr(translation_task, "prepare", lambda recipe, address: f"translations on {address}")
    assert prepare(CaptionRecipe.model_construct(), "ray://head") == "captions"
    assert prepare(TranslationRecipe.model_construct(), "ray://head") == "translations on ray://head"
    with pytest.raises(TypeError, match="a Recipe is neither"):
        prepare(Recipe.model_construct())
