"""The file that MLflow runs to load a model."""

from __future__ import annotations

import runpy

import mlflow.models.model

from pipelines.tracking import packaging
from pipelines.tracking.serving import Served


def test_what_mlflow_runs_gives_it_the_model(monkeypatch):
    monkeypatch.setattr(mlflow.models.model, "__mlflow_model__", None)
    runpy.run_path(packaging.__file__.replace("packaging.py", "served_model.py"))
    assert isinstance(mlflow.models.model.__mlflow_model__, Served)
