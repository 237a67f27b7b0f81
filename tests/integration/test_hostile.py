import gc
import io
import os
import shutil
import tarfile
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Store, verify
from pipelines.engine.driver import Options
from pipelines.errors import UserError
from pipelines.inputs.listing import Listing
from pipelines.verbs import features
from tests.worlds import hostile


def test_each_is_a_row_or_a_failure_with_its_reason(tmp_path):
    expected = hostile.make(tmp_path / "hostile")
    hostile.assert_as_expected(hostile.outcome_of(Listing(str(tmp_path / "hostile"))), expected)


def test_nothing_is_left_open(tmp_path):
    """Of the pictures: what this process has open besides, as Ray's sockets, comes and goes by itself."""
    folder = tmp_path / "hostile"
    hostile.make(folder)

    def open_here():
        links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
        return [to for link in links if os.path.lexists(link) and (to := os.readlink(link)).startswith(str(folder))]

    with (folder / "one more").open("wb") as file:  # what the check itself has to see
        assert open_here() == [file.name]
    os.remove(file.name)
    threads = set(threading.enumerate())
    hostile.outcome_of(Listing(str(folder)))
    gc.collect()
    assert open_here() == []
    assert not [thread for thread in set(threading.enumerate()) - threads if thread.name.startswith("read")]


NOBODY = 65534


@pytest.fixture
def folder_of_nobody():
    """An empty folder. Root may read everything, so where the tests are root's, this one is not meanwhile."""
    folder = Path(tempfile.mkdtemp())  # pytest's own is open to its user alone
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        try:
            os.seteuid(NOBODY)
        except PermissionError:
            shutil.rmtree(folder)
            pytest.skip("root that may not become another user, and may read everything")
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in folder.rglob("*"):
            path.chmod(0o700)
        shutil.rmtree(folder)


def test_what_may_not_be_read_is_a_failure_that_says_so(folder_of_nobody):
    for name in ("open/1.jpg", "secret/2.jpg", "secret file.jpg", "z.jpg"):
        (folder_of_nobody / name).parent.mkdir(exist_ok=True)
        (folder_of_nobody / name).write_bytes(hostile.JPEG)
    (folder_of_nobody / "secret").chmod(0)
    (folder_of_nobody / "secret file.jpg").chmod(0)
    found = hostile.outcome_of(Listing(str(folder_of_nobody)))
    assert {name for name, failure in found.items() if failure is None} == {"open/1.jpg", "z.jpg"}
    assert found["secret file.jpg"][0] == "read" and "Permission denied" in found["secret file.jpg"][1]
    assert found["secret/"][0] == "list" and "Permission denied" in found["secret/"][1]
    assert len(found) == 4


def test_a_folder_that_may_not_be_listed_is_told_at_once(folder_of_nobody):
    (folder_of_nobody / "secret").mkdir()
    (folder_of_nobody / "secret").chmod(0)
    with pytest.raises(UserError, match=r"(?s)secret.*Permission denied"):
        list(Listing(str(folder_of_nobody / "secret")).chunks())


def test_the_same_in_a_tar(tmp_path):
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, data in hostile.CONTENTS.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    hostile.assert_as_expected(
        hostile.outcome_of(Listing(str(tmp_path / "shard.tar"))),
        {f"shard.tar/{name}": what for name, what in hostile.EXPECTED.items()},
    )


def test_the_same_in_parquet(tmp_path):
    images = [{"bytes": data, "path": name} for name, data in hostile.CONTENTS.items()]
    pq.write_table(
        pa.table({"image": images, "image_id": list(hostile.CONTENTS)}), tmp_path / "t.parquet", row_group_size=20
    )
    hostile.assert_as_expected(hostile.outcome_of(Listing(str(tmp_path / "t.parquet"))), hostile.EXPECTED)


def test_the_verb(without_ray, tmp_path):
    expected = hostile.make(tmp_path / "hostile")
    arguments = (str(tmp_path / "hostile"), str(tmp_path / "store"), "torchvision/squeezenet1_0", "random", ("pooled",))
    outcome = features.run(*arguments, options=Options(workers=1))
    dataset = Store(tmp_path / "store").open(kind="features")
    snapshot = dataset.snapshot()
    failures = {row["image_id"]: (row["stage"], row["reason"]) for row in snapshot.failures().to_pylist()}
    done = snapshot.ids(include_failures=False).to_pylist()
    assert len(done) == len(set(done)) == outcome.summary["computed"]
    assert outcome.failed == len(failures)
    hostile.assert_as_expected(dict.fromkeys(done) | failures, expected)
    assert verify(dataset).problems == []
