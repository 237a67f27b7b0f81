"""A model folder as an MLflow model: code, weights, signature, an example and pinned requirements; never pickle.

```
MLmodel, requirements.txt, python_env.yaml, input_example.json
artifacts/model/         the model folder, as `rnncond caption --model` takes it
artifacts/backbone/      of a captioner, if they are at hand: the weights of its CNN, as one safetensors file
code/                    this project, and the file that MLflow runs
```
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.torch
from packaging.version import Version
from PIL import Image

from pipelines.features.weights import read_weights
from pipelines.tracking.models import BACKBONE
from pipelines.tracking.registry import ALLOWED_URIS, MODEL_ID, NO_URIS, WEIGHTS
from rnncond import checkpoint
from rnncond.checkpoint import Trained

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

PROJECT = Path(__file__).parents[2]
"""The folder that has the packages."""
PACKAGES = (
    "mlflow", "torch", "torchvision", "timm", "numpy", "pandas", "pillow", "pyarrow", "fsspec", "tokenizers",
    "safetensors", "ray[data,train]", "pydantic", "pyyaml", "typer", "rich",
)  # fmt: skip
"""What the code needs, so far as it serves."""


def log_model(
    client: MlflowClient,
    run_id: str,
    folder: str | Path,
    name: str = "model",
    weights: str | None = None,
    allowed_uris: Sequence[str] = (),
    trained: Trained | None = None,
) -> str:
    """Log a model folder as an output of a run, unless the run has it under that name already; returns its id.

    Args:
        weights: a file with those of the backbone, which then travels with the model.
        allowed_uris: see ``pipelines.tracking.allowed_uris``; of a captioner.
        trained: the model in ``folder``, where it is loaded already.
    """
    from mlflow.entities import LoggedModelOutput

    trained = trained or checkpoint.load(folder)
    tags = {MODEL_ID: trained.model_id, "rnncond.system": trained.system, ALLOWED_URIS: uris_tag(allowed_uris)}
    if weights:
        tags[WEIGHTS] = Path(weights).name
    if known := logged(client, run_id, name, tags):
        return known.model_id
    run = client.get_run(run_id)
    model = client.create_logged_model(run.info.experiment_id, name, run_id, tags, model_type=trained.system)
    with saved(folder, trained, weights, run_id, model.model_id, allowed_uris) as files:
        client.log_model_artifacts(model.model_id, str(files))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=int(trained.info.get("epoch", 0)))])
    return model.model_id


def uris_tag(allowed_uris: Sequence[str]) -> str:
    return " ".join(allowed_uris) or NO_URIS


def logged(client: MlflowClient, run_id: str, name: str, tags: Mapping[str, str]) -> LoggedModel | None:
    """The newest model with all of ``tags`` that a run has logged under ``name``."""
    outputs = client.get_run(run_id).outputs
    models = [client.get_logged_model(output.model_id) for output in (outputs.model_outputs if outputs else ())]
    models = [
        model
        for model in models
        if model.name == name and model.status == "READY" and tags.items() <= model.tags.items()
    ]
    return max(models, key=lambda model: model.creation_timestamp, default=None)


@contextmanager
def saved(
    folder: str | Path,
    trained: Trained,
    weights: str | None,
    run_id: str | None = None,
    model_id: str | None = None,
    allowed_uris: Sequence[str] = (),
) -> Iterator[Path]:
    """The MLflow model as a folder, for the time of the block."""
    import mlflow

    with tempfile.TemporaryDirectory(prefix="rnncond-model-") as place:
        artifacts = {"model": str(shutil.copytree(folder, Path(place, "model")))}
        if weights:
            artifacts[BACKBONE] = str(as_safetensors(weights, Path(place, BACKBONE)).parent)
        with contextlib.redirect_stderr(io.StringIO()):  # MLflow advises how to write predict
            mlflow.pyfunc.save_model(
                Path(place, "logged"),
                python_model=str(Path(__file__).with_name("served_model.py")),
                artifacts=artifacts,
                code_paths=[str(PROJECT / package) for package in ("rnncond", "feature_store", "pipelines")],
                signature=signature_of(trained),
                input_example=example_of(trained),
                pip_requirements=requirements(),
                model_config={"allowed_uris": list(allowed_uris), "precision": "float32"},  # as ``Served`` reads it
                mlflow_model=mlflow.models.Model(run_id=run_id, model_id=model_id),
            )
        yield Path(place, "logged")


def as_safetensors(weights: str, folder: Path) -> Path:
    """A copy of a file of weights that nothing can hide in; its name stays, for it may say which weights they are."""
    folder.mkdir()
    file = folder / f"{Path(weights).stem}.safetensors"
    tensors = {name: tensor.contiguous().clone() for name, tensor in read_weights(weights).items()}
    file.write_bytes(safetensors.torch.save(tensors))
    return file


def signature_of(trained: Trained) -> ModelSignature:
    """Columns are of any type: MLflow would refuse a whole request for one row whose type is wrong, or make text of its
    null; ``pipelines.tracking.serving`` answers each row for itself."""
    from dataclasses import asdict

    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    from pipelines.tracking.serving import PARAMS, ServedCaptioner, ServedTranslator, options_of

    served = ServedCaptioner if trained.features else ServedTranslator
    # Optional, so that it is not MLflow that refuses a table without any, in words that do not say what is expected.
    columns: list[ColSpec | TensorSpec] = [ColSpec(AnyType(), name, False) for name in served.columns]
    answers: list[ColSpec | TensorSpec] = [ColSpec("string", served.answer, False), ColSpec("double", "score", False)]
    answers.append(ColSpec("string", "error", False))
    defaults = asdict(options_of(trained, {}))
    params = [ParamSpec(name, kind, defaults[name]) for name, kind in PARAMS.items()]
    return ModelSignature(Schema(columns), Schema(answers), ParamSchema(params))


def example_of(trained: Trained) -> pd.DataFrame:
    import pandas as pd

    if not trained.features:
        return pd.DataFrame({"text": ["A man is reading a book."]})
    shades = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(shades).save(file, "PNG")
    return pd.DataFrame({"image": [file.getvalue()]})


def requirements() -> list[str]:
    """The versions that are installed here."""
    return [f"{name}=={Version(metadata.version(name.partition('[')[0])).public}" for name in PACKAGES]
