"""MLflow: runs, models, registry, serving."""
