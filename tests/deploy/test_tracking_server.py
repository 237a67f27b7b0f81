"""MLflow as deploy/kuberay/mlflow.yaml runs it: under the name of the settings, with passwords, one at a time."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.worlds.manifests import one, pods


def test_the_tracking_server_of_the_settings_is_deployed_and_answers_by_that_name():
    from mlflow.cli import cli
    from mlflow.server.security_utils import is_allowed_host_header

    deployment, service = one("Deployment")["spec"], one("Service")
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert (
        container["image"] == one("RayCluster")["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    )
    program, verb, *words = container["command"]
    assert (program, verb) == ("mlflow", "server")
    options = cli.commands[verb].make_context(verb, words).params
    (port,) = service["spec"]["ports"]
    uri = f"http://{service['metadata']['name']}:{port['port']}"
    assert one("ConfigMap", "rnncond")["data"]["MLFLOW_TRACKING_URI"] == uri
    hosts = options["allowed_hosts"].split(",")
    assert is_allowed_host_header(hosts, "mlflow:5000") and is_allowed_host_header(hosts, "localhost:5001")
    assert (options["host"], options["port"]) == ("0.0.0.0", container["ports"][0]["containerPort"])
    assert port["targetPort"] == container["ports"][0]["name"] == container["readinessProbe"]["httpGet"]["port"]
    labels = deployment["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["selector"]["matchLabels"] == {"app": labels["app"]}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "mlflow"}} in pod["volumes"]
    assert options["backend_store_uri"].startswith(f"sqlite:///{mounted['data']}/")
    assert options["artifacts_destination"].startswith(f"{mounted['data']}/")
    assert options["app_name"] == "basic-auth"
    assert mounted["auth"] == str(Path(env(container)["MLFLOW_AUTH_CONFIG_PATH"]).parent)
    # One writer: neither two servers nor an old beside a new one.
    assert one("PersistentVolumeClaim", "mlflow")["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert deployment["strategy"] == {"type": "Recreate"}
    assert deployment["replicas"] == 1


def env(container: dict) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


@pytest.mark.slow
def test_the_tracking_server_asks_for_a_password(tmp_path):
    (container,) = pods()["mlflow"]["spec"]["containers"]
    words = [word.replace("/mlflow/", f"{tmp_path}/") for word in container["command"]]
    port = free_port()
    words = [f"--port={port}" if word.startswith("--port") else word for word in words]
    settings = one("ConfigMap", "mlflow")["data"]["basic_auth.ini"].replace("/mlflow/", f"{tmp_path}/")
    (tmp_path / "basic_auth.ini").write_text(settings)
    secrets = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "key", "MLFLOW_AUTH_ADMIN_PASSWORD": "correct horse"}
    environment = {**os.environ, **secrets, "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "basic_auth.ini")}
    command = [sys.executable, "-m", "mlflow", *words[1:]]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while answer(f"http://localhost:{port}/health") != 200:  # where the readiness probe looks, without a password
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.5)
        experiments = f"http://localhost:{port}/api/2.0/mlflow/experiments/get?experiment_id=0"
        assert [answer(experiments), answer(experiments, "admin:wrong")] == [401, 401]
        assert answer(experiments, "admin:correct horse") == 200
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def answer(uri: str, user: str = "") -> int:
    """The HTTP status of a GET, with ``user:password`` if it is given; 0 where nobody answers."""
    credentials = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()} if user else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(uri, headers=credentials)) as got:
            return got.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
