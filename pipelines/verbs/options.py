"""Options that several verbs share, declared once."""

from __future__ import annotations

from typing import Annotated

import typer

TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="of MLflow; by default MLFLOW_TRACKING_URI, or sqlite:///mlflow.db"),
]
