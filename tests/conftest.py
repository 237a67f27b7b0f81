"""What several test files share: one Ray for the session, and generated photographs."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image


def pytest_configure():
    # Ray that starts here makes a token and asks for it from then on, also for the clusters of other tests, which were
    # begun without one.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    # Before torch is loaded: threads of several processes wait for one another by spinning, on cores that others need.
    os.environ["OMP_NUM_THREADS"] = "1"
    # Nobody reads what workers print; by default each Ray looks through its log files ten times a second.
    os.environ |= {"RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0", "LOG_NAME_UPDATE_INTERVAL_S": "3600"}
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.5"  # that a training has ended is found out no sooner


@pytest.fixture(scope="session")
def ray_cluster():
    """Ray on this machine with two CPUs, whatever RAY_ADDRESS says; verbs that are called use it."""
    from pipelines import cluster

    with cluster.connect("local", cpus=2) as found:
        yield found


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
