import gc
import io
import os
import tarfile
import threading

import hostile
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store import Store, verify
from pipelines import features
from pipelines.listing import Listing
from pipelines.units import Options


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


@pytest.mark.ray
def test_the_verb(ray_cluster, tmp_path):
    expected = hostile.make(tmp_path / "hostile")
    arguments = (str(tmp_path / "hostile"), str(tmp_path / "store"), "torchvision/squeezenet1_0", "random", ("pooled",))
    outcome = features.run(*arguments, options=Options(workers=2))
    dataset = Store(tmp_path / "store").open(kind="features")
    snapshot = dataset.snapshot()
    failures = {row["image_id"]: (row["stage"], row["reason"]) for row in snapshot.failures().to_pylist()}
    done = snapshot.ids(include_failures=False).to_pylist()
    assert len(done) == len(set(done)) == outcome.summary["computed"]
    assert outcome.failed == len(failures)
    hostile.assert_as_expected(dict.fromkeys(done) | failures, expected)
    assert verify(dataset).problems == []
