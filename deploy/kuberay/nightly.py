"""Start rayjob.yaml under the name of the Job that runs this, wait for its end, and end as it did.

It runs in a pod of cronjob.yaml and needs nothing but Python, PyYAML and the pod's service account, which may create
and read RayJobs and no more. What it creates belongs to its Job, so Kubernetes removes it together with the Job, by the
CronJob's history limits; nothing else is ever removed. A pod that takes the place of a lost one finds the RayJob by its
name and waits on.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS_BETWEEN = 15


def api() -> str:
    """The uri of the API server, from what Kubernetes tells every pod."""
    host = os.environ["KUBERNETES_SERVICE_HOST"]
    return f"https://{f'[{host}]' if ':' in host else host}:{os.environ['KUBERNETES_SERVICE_PORT']}"


def ask(uri: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer to a GET, or to a POST of ``body``. The token is read each time, because Kubernetes renews it."""
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Content-Type": "application/json"}
    request = urllib.request.Request(uri, headers=headers, data=json.dumps(body).encode() if body else None)
    context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt") if uri.startswith("https:") else None
    with urllib.request.urlopen(request, timeout=30, context=context) as answer:
        return json.load(answer)


def start(jobs: str, manifest: Path, name: str, owner: str) -> None:
    """Create the RayJob ``name``, owned by the Job with the uid ``owner``, unless it is there already."""
    job = yaml.safe_load(manifest.read_text())
    owned_by = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": owner}
    job["metadata"] = {**job["metadata"], "name": name, "ownerReferences": [owned_by]}
    try:
        ask(jobs, job)
        print(f"Started the RayJob {name}.", flush=True)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
        print(f"The RayJob {name} is there already: waiting for it.", flush=True)


def wait(job: str) -> dict[str, Any]:
    """The status of a RayJob that has ended. An API server that is away for a while is asked again."""
    last = None
    while True:
        try:
            status = ask(job).get("status", {})
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise
            print(f"The API server answers {error.code}; asking again.", flush=True)
        except OSError as error:
            print(f"The API server does not answer ({error}); asking again.", flush=True)
        else:
            state = status.get("jobDeploymentStatus", "")
            if state != last:
                print(f"{job.rpartition('/')[2]}: {state or 'New'}", flush=True)
            if state in ("Complete", "Failed"):
                return status
            last = state
        time.sleep(SECONDS_BETWEEN)


def main() -> None:
    namespace = (ACCOUNT / "namespace").read_text().strip()
    jobs = f"{api()}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
    name = os.environ["JOB_NAME"]
    try:
        start(jobs, Path(__file__).with_name("rayjob.yaml"), name, os.environ["JOB_UID"])
        status = wait(f"{jobs}/{name}")
    except urllib.error.HTTPError as error:
        sys.exit(f"The API server refuses: {error.code} {error.reason}. {error.read().decode(errors='replace')[:500]}")
    if status.get("jobStatus") != "SUCCEEDED":
        reasons = [status.get(key) for key in ("jobStatus", "reason", "message")]
        sys.exit(f"The RayJob {name} failed: {', '.join(reason for reason in reasons if reason)}")


if __name__ == "__main__":
    main()
