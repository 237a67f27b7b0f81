"""Batch pipelines and training on Ray, tracked in MLflow: the only home of either."""
