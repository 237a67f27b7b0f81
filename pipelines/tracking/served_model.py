"""MLflow runs this file to load a logged model: "models from code", so that nothing is pickled."""

from mlflow.models import set_model

from pipelines.tracking.serving import Served

set_model(Served())
