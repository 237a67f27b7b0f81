"""Fixtures of several test files: one Ray for the session, generated photographs, a bucket, a tree of files."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image


def pytest_configure():
    # A Ray that starts here would make a token and from then on ask every client for it, also those of clusters that
    # other tests started without one.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    # This must be set before torch is loaded: its threads wait for one another by spinning, on cores that others need.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # a process less, also of clusters that tests start themselves
    # Nobody reads what workers print, and by default each Ray looks through its log files ten times a second. Workers,
    # for which tests wait, would leave the processor to all others.
    os.environ |= {"RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0", "LOG_NAME_UPDATE_INTERVAL_S": "3600"}
    os.environ |= {"RAY_worker_niceness": "0"}
    # Each run draws other examples; --hypothesis-profile=thorough looks longer.
    settings.register_profile("suite", max_examples=25, deadline=None)
    settings.register_profile("thorough", max_examples=1000, deadline=None)
    settings.load_profile("suite")


@pytest.fixture(scope="session")
def ray_cluster():
    """Ray on this machine with two CPUs, whatever RAY_ADDRESS says. Verbs that a test calls use it."""
    from pipelines.cluster import connection

    with connection.connect("local", cpus=2) as found:
        yield found


@pytest.fixture
def without_ray():
    """Batch verbs and trainings do all that they do in this process, with one worker. Where it is not about Ray, this
    saves half a dozen processes, each of which takes seconds to start."""
    from tests.worlds.engine import without_ray

    with without_ray():
        yield


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The current folder with what a small captioner is trained on: the arguments that a recipe needs for it."""
    from tests.worlds.training import make_world

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return make_world(tmp_path)


@pytest.fixture
def no_java(monkeypatch):
    """A machine without Java, whose metrics of captions (METEOR, SPICE) are left out: a virtual machine each."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))


@pytest.fixture(scope="session", autouse=True)
def tables_of_mlflow(tmp_path_factory):
    """MLflow's tables are made once, which takes SQLite seconds and hundreds of flushes; other databases are copies."""
    from mlflow.store.db import utils
    from sqlalchemy import create_engine

    make, made = utils._initialize_tables, tmp_path_factory.mktemp("mlflow") / "empty.db"

    def copied(engine):
        if engine.dialect.name != "sqlite":
            return make(engine)
        if not made.exists():
            first = create_engine(f"sqlite:///{made}")
            make(first)
            first.dispose()
        engine.dispose()
        shutil.copyfile(made, engine.url.database)
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", copied)
        yield


@pytest.fixture(scope="session")
def s3_server():
    """The address of an S3 server on the loopback interface; buckets of tests differ by name."""
    running = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def make_photos(tmp_path):
    """A function that fills a folder with small JPEGs, each different: ``make_photos(count, name="photos")``."""

    def make(count: int, name: str = "photos", size: tuple[int, int] = (64, 48)):
        folder = tmp_path / name
        folder.mkdir()
        for index in range(count):
            coarse = np.random.default_rng(index).integers(0, 256, (4, 5, 3), np.uint8)
            Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{index:05d}.jpg")
        return folder

    return make


@pytest.fixture(scope="session")
def s3_client(s3_server):
    """Making one takes boto3 a third of a second."""
    import boto3

    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    return boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1", **keys)


@pytest.fixture
def bucket(s3_server, s3_client, monkeypatch):
    """The uri of an empty bucket in a real S3 server on the loopback interface, and a function that fills it.

    Clients find the server by AWS_ENDPOINT_URL, as on any cluster; a Ray that is running already does not know it.
    """
    from pipelines.files import filesystems

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    filesystems._file_system.cache_clear()
    name = f"pictures-{secrets.token_hex(4)}"
    s3_client.create_bucket(Bucket=name)
    yield f"s3://{name}", lambda key, data: s3_client.put_object(Bucket=name, Key=key, Body=data)
    filesystems._file_system.cache_clear()


@pytest.fixture
def no_pauses(monkeypatch):
    """What storage refuses is asked for again almost at once, and storage is never slow."""
    from feature_store import retry
    from tests.worlds import bad_storage

    monkeypatch.setattr(bad_storage, "DELAY_SECONDS", 0.0)
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.05)


@pytest.fixture
def writers_end(monkeypatch):
    """Whoever began to write a remote folder in a test gives no sign of life after it."""
    from pipelines.files.remote_folder import FolderWriter

    begin, begun = FolderWriter.__init__, []

    def remembered(self, *arguments):
        begin(self, *arguments)
        begun.append(self)

    monkeypatch.setattr(FolderWriter, "__init__", remembered)
    yield
    for writer in begun:
        writer.term._stop_beating()


@pytest.fixture
def cluster_that_knows_this_file(ray_cluster):
    """Ray's workers cannot import the files of tests, so code from these is sent along with each task."""
    import ray

    own = [module for name, module in sys.modules.items() if name.startswith("tests.") and "test_" in name]
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
    from pipelines.files import filesystems

    real = filesystems._local_children

    def children(root):
        if root.endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return real(root)

    monkeypatch.setattr(filesystems, "_local_children", children)
