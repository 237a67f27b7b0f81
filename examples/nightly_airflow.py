"""Every night as an Airflow DAG: features of the photographs that are new, captions of them by the model in use, and a
page to look at. Written for Airflow 3.3; put it into the folder of the DAGs.

Each task is a job on the Ray cluster of deploy/kuberay/raycluster.yaml, which grows for it and shrinks after it.
Airflow's workers only submit and follow: they need `rnncond`, the cluster's address and its token (RAY_AUTH_MODE=token
and RAY_AUTH_TOKEN), and no GPU. A job keeps its id for all tries of its task, so where a worker was lost the next try
finds the job, running or ended, and follows it.
"""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

BUCKET = "s3://bucket"
CLUSTER = "http://rnncond-cluster-head-svc:8265"

STAGES = {
    "features": [
        *("features", f"{BUCKET}/photos/", "--store", f"{BUCKET}/store"),
        *("--backbone", "timm/resnet50", "--outputs", "grid"),
    ],
    "caption": [
        *("caption", "--store", f"{BUCKET}/store", "--model", "models:/captioner@champion"),
        *("--out", f"{BUCKET}/captions"),
    ],
    "report": ["report", f"{BUCKET}/captions"],
}


@task(retries=2, retry_delay=timedelta(minutes=10))
def run(stage: str, dag_run: Any = None) -> None:
    """Do a stage. What a fault broke off is begun again, by `rnncond submit` where it sees the fault and by Airflow
    elsewhere; a mistake in the command or the data fails at once."""
    submit = [
        *("rnncond", "submit", "--address", CLUSTER, "--id", f"{stage}-{dag_run.run_after:%Y%m%d-%H%M}"),
        *("--retry", "3", "--timeout", "21600", "--wait", "900"),
    ]
    code = subprocess.run([*submit, "--", *STAGES[stage]]).returncode
    if code == 2:
        raise AirflowFailException(f"{stage}: a mistake, which another try would repeat; see the log above")
    if code not in (0, 3):  # 3: all is done but some inputs that cannot be read, which are listed
        raise RuntimeError(f"{stage} ended with exit code {code}")


@dag(schedule="0 2 * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1, tags=["rnncond"])
def rnncond_nightly() -> None:
    features, caption, report = (run.override(task_id=stage)(stage) for stage in STAGES)
    features >> caption >> report


rnncond_nightly()
