from __future__ import annotations

import secrets
import sys
from pathlib import Path

import pytest


@pytest.fixture
def bucket(monkeypatch):
    """The uri of an empty bucket in a real S3 server on the loopback interface, and what puts an object in it.

    It is found by AWS_ENDPOINT_URL, as on any cluster; a Ray that runs already does not know it.
    """
    server = pytest.importorskip("moto.server")
    import boto3

    from pipelines import places

    running = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    places._file_system.cache_clear()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    name = f"pictures-{secrets.token_hex(4)}"  # the servers of a process share their buckets
    client.create_bucket(Bucket=name)
    yield f"s3://{name}", lambda key, data: client.put_object(Bucket=name, Key=key, Body=data)
    places._file_system.cache_clear()
    running.stop()


@pytest.fixture
def cluster_that_knows_this_file(ray_cluster):
    """Ray's workers cannot import the files of tests; what they need of these travels with what they are sent."""
    import ray

    here = Path(__file__).parent
    tests = [module for name, module in sys.modules.items() if name.startswith("test_")]
    own = [module for module in tests if Path(module.__file__ or "").parent == here]
    for module in own:
        ray.cloudpickle.register_pickle_by_value(module)
    yield
    for module in own:
        ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def tree(tmp_path):
    """A folder with pictures and other files."""
    for name in ("b.jpg", "a/2.PNG", "a/1.webp", "a.jpg", "a-b.jpeg", "notes.md", "a/.hidden.jpg", "noend"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return tmp_path / "tree"


@pytest.fixture
def a_is_closed(monkeypatch):
    """No folder ``a`` can be listed, not by root either."""
    from pipelines import places

    real = places._local_children

    def children(root):
        if root.endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return real(root)

    monkeypatch.setattr(places, "_local_children", children)
