"""`rnncond features` as a user runs it, and what kills it: SIGKILL on the driver, on a worker, a full disk."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from actors import await_actors

from feature_store import Store

PHOTOS = 160
SECONDS = 300
"""After which a run that does not come to its point has failed."""

pytestmark = pytest.mark.ray


@pytest.fixture
def start():
    """Starts the command in a process of its own; ends at the last whatever it and its Ray have left running."""
    begun: list[subprocess.Popen] = []
    seen: dict[int, psutil.Process] = {}

    def start(photos: Path, store: Path, *options: str) -> subprocess.Popen:
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        words = [sys.executable, "-m", "pipelines.cli", "features", str(photos), "--store", str(store)]
        words += ["--backbone", "torchvision/squeezenet1_0", "--weights", "random", "--rows-per-part", "4", "--json"]
        process = subprocess.Popen(
            [*words, *options], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        begun.append(process)
        process.family = lambda: remember(process, seen)
        return process

    yield start
    for process in begun:
        remember(process, seen)
        process.kill()
        process.communicate()
    for process in seen.values():
        if process.is_running():  # false for another process of the same id
            process.kill()


def remember(process: subprocess.Popen, seen: dict[int, psutil.Process]) -> list[psutil.Process]:
    """The processes below a running driver."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    seen.update((child.pid, child) for child in family)
    return family


def entries(store: Path) -> int:
    return len(list(store.glob("sets/*/ledger/*/*-*.json")))


def wait_for_parts(process: subprocess.Popen, store: Path, more: int) -> None:
    """Until this run has committed parts."""
    enough, deadline = entries(store) + more, time.monotonic() + SECONDS
    while entries(store) < enough:
        assert process.poll() is None, f"ended before it was killed: {process.communicate()}"
        assert time.monotonic() < deadline, "no part is committed"
        process.family()
        time.sleep(0.02)


def finished(process: subprocess.Popen) -> tuple[int, dict, str]:
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, json.loads(out.splitlines()[-1]), err


def committed(store: Path) -> dict[str, tuple]:
    """Of each committed part its file, and what would change if it were written again."""
    snapshot = Store(store).open(kind="features").snapshot()
    files = {part.name: Path(snapshot.files.full(f"{snapshot.folder}/{part.path}")) for part in snapshot.parts}
    return {name: (path.name, path.stat().st_ino, path.stat().st_mtime_ns) for name, path in files.items()}


def check_complete(store: Path, photos: Path) -> None:
    ids = Store(store).open(kind="features").snapshot().ids(include_failures=False).to_pylist()
    assert sorted(ids) == sorted(path.name for path in photos.iterdir())


def kill_and_resume(start, photos: Path, store: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    kept: dict[str, tuple] = {}
    for _ in range(kills):
        process = start(photos, store)
        wait_for_parts(process, store, more=chance.randint(1, 5))
        time.sleep(chance.random() / 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert kept.items() <= committed(store).items()
        kept = committed(store)

    process = start(photos, store)
    chance.choice(await_actors(process, process.family)).kill()
    code, summary, err = finished(process)
    assert code == 0, err
    assert summary["already_done"] >= 4 * len(kept) > 0
    assert summary["already_done"] + summary["computed"] == PHOTOS
    assert kept.items() <= committed(store).items()
    check_complete(store, photos)

    before = committed(store)
    code, summary, _ = finished(start(photos, store))
    assert (code, summary["already_done"], summary["computed"]) == (0, PHOTOS, 0)
    assert committed(store) == before


def test_killed_and_run_again(start, make_photos, tmp_path):
    kill_and_resume(start, make_photos(PHOTOS), tmp_path / "store", kills=1, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_many_times(start, make_photos, tmp_path, seed):
    kill_and_resume(start, make_photos(PHOTOS), tmp_path / "store", kills=4, seed=seed)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB, and a function that changes its size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    if subprocess.run([*mount, "size=3M", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("may not mount a small file system here")
    yield folder, lambda size: subprocess.run([*mount, f"remount,size={size}", "tmpfs", str(folder)], check=True)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(start, make_photos, small_disk):
    folder, resize = small_disk
    photos, store = make_photos(PHOTOS), folder / "store"
    code, answer, err = finished(start(photos, store))
    assert code == 2
    assert "the disk is full" in " ".join(err.split()) and "run the same command again" in " ".join(err.split())
    assert "Traceback" not in err and "error" in answer
    kept = committed(store)
    assert kept

    resize("200M")
    code, summary, err = finished(start(photos, store))
    assert code == 0, err
    assert summary["already_done"] == 4 * len(kept)
    assert kept.items() <= committed(store).items()
    check_complete(store, photos)
