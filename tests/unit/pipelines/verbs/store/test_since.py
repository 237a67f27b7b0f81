"""``rnncond caption --since SET``: the pictures of a set by another model, and a file of what changed."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from feature_store import Store, StoreError
from pipelines.console import Outcome
from pipelines.inputs.listing import Listing
from pipelines.verbs import caption
from pipelines.verbs.store import since
from tests.worlds.captioned import caption_set


@pytest.fixture
def captioned(tmp_path, monkeypatch):
    """A store with captions of one model; the verb writes those of another, of what it is given."""
    monkeypatch.chdir(tmp_path)
    given = {}

    def run(model, out, images, store=None, **options):
        listed = [row for chunk in Listing(images).chunks() for row in chunk.to_pylist()] if images else []
        given.update({row["image_id"]: row["uri"] for row in listed}, **options)
        assert {row["version"] for row in listed} <= {"1"}, "by which an edited member of a shard is noticed"
        new = caption_set(tmp_path / "s", model, {"a": "a dog", "b": "two cats"})
        return Outcome({"set": new.fingerprint, "changed": 0})

    monkeypatch.setattr(caption, "run", run)
    caption_set(tmp_path / "s", "old", {"a": "a dog", "b": "a cat"})
    return given


def test_the_pictures_of_the_set_are_captioned_and_what_changed_is_kept(captioned, tmp_path):
    outcome = since.run("current", "new", "s", None, None, beam=3)
    assert captioned == {name: str(tmp_path / f"images/{name}.jpg") for name in "ab"} | {"beam": 3}
    assert [outcome.summary[name] for name in ("captions_changed", "same", "changed")] == [1, 1, 0]
    (row,) = pq.read_table(outcome.summary["changes"]).to_pylist()
    assert (row["id"], row["before"], row["after"]) == ("b", "a cat", "two cats")
    assert len(Store("s").datasets()) == 2  # what lies beside the sets is none


def test_files_that_were_removed_since_are_not_tried(captioned, tmp_path):
    """They would be failures of the new set, which has all that there is. A folder that is away is no removed file."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    since.run("current", "new", "s", None, None)
    assert captioned == {"a": str(tmp_path / "images/a.jpg")}


def test_a_set_that_is_not_there_is_told_before_any_work(captioned):
    with pytest.raises(StoreError, match="no set of kind captions beef; it has"):
        since.run("beef", "new", "s", None, None)
    assert captioned == {}
