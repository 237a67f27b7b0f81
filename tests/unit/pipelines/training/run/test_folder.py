import errno
import itertools
import os
import shutil
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from pipelines.errors import UserError
from pipelines.files.jsonl import read_lines
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.info import read_run
from tests.worlds.disk import watched_disk


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.open("system: show_tell\n", {"seed": 3})
    return folder


def test_a_new_run_says_what_it_is(folder):
    run = read_run(folder.out)
    assert (run["status"], run["seed"]) == ("running", 3)
    folder.update(status="finished", ended="now")
    assert read_run(folder.out) == run | {"status": "finished", "ended": "now"}
    assert (folder.out / "recipe.yaml").read_text() == "system: show_tell\n"


def test_a_second_run_in_the_folder_is_refused_while_the_first_lives(folder):
    with pytest.raises(UserError, match="Another run is writing"):
        RunFolder(folder.out).open("", {}, restart=True)
    assert read_run(folder.out)["seed"] == 3
    folder.close()
    assert RunFolder(folder.out).open("", {"seed": 4})["seed"] == 3


def test_a_folder_is_waited_for_while_the_last_process_of_a_killed_run_ends(folder):
    ends = threading.Timer(0.2, folder.close)
    ends.start()
    assert RunFolder(folder.out).open("", {}, patience=60)["seed"] == 3


def test_a_full_disk_is_told_as_one(folder, monkeypatch):
    folder.save_checkpoint(1, {"state": b"one"})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        folder.save_checkpoint(2, {"state": b"two"})
    assert folder.checkpoint() == {"state": b"one"}


def test_restart_throws_away_all_of_the_old_run_and_nothing_else(folder):
    folder.epoch({"epoch": 1}, [{"caption": "a"}])
    folder.save_checkpoint(5, {"state": b"x"}, {"best": {"model.json": b"{}"}})
    (folder.out / "notes.txt").write_text("mine")
    folder.close()
    RunFolder(folder.out).open("new: 1\n", {"seed": 9}, restart=True)
    left = sorted(path.name for path in folder.out.iterdir())
    assert left == [".lock", "notes.txt", "recipe.yaml", "run.json"]
    assert read_run(folder.out)["seed"] == 9


class Killed(Exception):
    pass


def killed_at(monkeypatch, owner, change, count):
    """Die just before the ``count``-th time that the function ``change`` of ``owner`` is called."""
    calls = itertools.count(1)
    original = getattr(owner, change)

    def mortal(*arguments, **keywords):
        if next(calls) == count:
            raise Killed
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, change, mortal)


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_that_is_killed_as_it_begins_has_not_begun_or_can_go_on(tmp_path, monkeypatch, count):
    first = RunFolder(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, os, "replace", count)
        first.open("a: 1\n", {"seed": 3})
    first.close()
    assert read_run(tmp_path) == {}
    run = RunFolder(tmp_path).open("a: 1\n", {"seed": 3})
    assert (run["seed"], run["status"]) == (3, "running")


@pytest.mark.parametrize("count", [1, 2])
def test_a_finished_run_that_is_killed_as_it_goes_on_is_not_finished_by_another_recipe(folder, monkeypatch, count):
    folder.update(status="finished")
    folder.close()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, os, "replace", count)
        folder.open("epochs: 9\n", {})
    assert ((folder.out / "recipe.yaml").read_text(), read_run(folder.out)["status"]) == (
        "system: show_tell\n", {1: "finished", 2: "running"}[count],
    )  # fmt: skip


@pytest.mark.parametrize("count", range(1, 6))
def test_a_restart_that_is_killed_leaves_nothing_of_the_old_run_to_the_next(folder, monkeypatch, count):
    folder.epoch({"epoch": 1}, [{"caption": "a"}])
    folder.save_checkpoint(5, {"state": b"x"}, {"best": {"model.json": b"{}"}})
    folder.close()
    files = ["recipe.yaml", "metrics.jsonl", "samples.jsonl", "run.json"]
    with monkeypatch.context() as patch:
        killed_at(patch, Path, "unlink", count)
        again = RunFolder(folder.out)
        with nullcontext() if count > len(files) else pytest.raises(Killed):
            again.open("new: 1\n", {"seed": 9}, restart=True)
        again.close()
    assert read_run(folder.out) == {} or count > len(files)
    run = RunFolder(folder.out).open("new: 1\n", {"seed": 9})
    assert (run["seed"], run["status"]) == (9, "running")
    assert sorted(path.name for path in folder.out.iterdir()) == [".lock", "recipe.yaml", "run.json"]


def test_a_damaged_run_json_is_said_and_a_restart_does_not_need_it(folder):
    folder.close()
    (folder.out / "run.json").write_text('{"status": "fini')
    again = RunFolder(folder.out)
    with pytest.raises(UserError, match=r"run\.json is damaged.*--restart"):
        again.open("", {})
    again.close()
    assert RunFolder(folder.out).open("", {"seed": 4}, restart=True)["seed"] == 4


def test_the_newest_state_is_kept_with_the_models(folder):
    assert folder.checkpoint() is None
    folder.save_checkpoint(9, {"state": b"nine"}, {"last": {"model.json": b"9"}, "best": {"model.json": b"9"}})
    folder.save_checkpoint(10, {"state": b"ten"}, {"last": {"model.json": b"10"}})
    assert folder.checkpoint() == {"state": b"ten"}
    folder.save_checkpoint(11, {"state": b"eleven"})
    assert sorted(path.name for path in (folder.out / "checkpoints").iterdir()) == [
        "step-00000010",
        "step-00000011",
    ]
    assert (folder.out / "best" / "model.json").read_bytes() == b"9"
    assert (folder.out / "last" / "model.json").read_bytes() == b"10"


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1])


def turned(path):
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


DAMAGES = {"cut": cut_short, "turned": turned, "gone": lambda path: path.unlink()}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("file", ["state", "sha256.json"])
def test_a_damaged_state_is_told_once_and_the_one_before_is_used(folder, damage, file):
    for step in (8, 9, 10):
        folder.save_checkpoint(step, {"state": str(step).encode(), "position": b"here"})
    folder.take_news()
    damage(folder.out / "checkpoints" / "step-00000010" / file)
    for _ in range(2):
        assert folder.checkpoint() == {"state": b"9", "position": b"here"}
    (note,) = folder.take_news()
    assert note["kind"] == "note"
    assert "step-00000010 is damaged" in note["message"]
    assert file in note["message"] or file == "sha256.json"


def test_what_follows_a_damaged_state_takes_its_place(folder):
    for step in (9, 10, 20):
        folder.save_checkpoint(step, {"state": str(step).encode()}, {"last": {"model": str(step).encode()}}, history=2)
    cut_short(folder.out / "checkpoints" / "step-00000020" / "state")
    folder.save_checkpoint(15, {"state": b"15"}, {"last": {"model": b"15"}}, history=2)
    assert folder.checkpoint() == {"state": b"15"}
    assert sorted(path.name for path in (folder.out / "checkpoints").iterdir()) == [
        "step-00000010",
        "step-00000015",
    ]
    assert folder.history() == [{"model": b"10"}, {"model": b"15"}]


def test_a_run_whose_states_are_all_damaged_does_not_begin_again_unasked(folder):
    for step in (9, 10):
        folder.save_checkpoint(step, {"state": b"x"})
        cut_short(folder.out / "checkpoints" / f"step-{step:08d}" / "state")
    folder.close()
    second = RunFolder(folder.out)
    with pytest.raises(UserError, match=r"cannot be resumed from any checkpoint in .*--restart"):
        second.open("", {})
    second.close()
    RunFolder(folder.out).open("", {}, restart=True)


def test_an_epoch_that_comes_again_is_not_written_again(folder):
    for epoch in (1, 2, 2, 1, 3):
        folder.epoch({"epoch": epoch, "train_loss": 1 / epoch}, [{"caption": f"epoch {epoch}"}])
    assert [line["epoch"] for line in read_lines(folder.out / "metrics.jsonl")] == [1, 2, 3]
    assert [line["caption"] for line in read_lines(folder.out / "samples.jsonl")] == [
        "epoch 1",
        "epoch 2",
        "epoch 3",
    ]
    assert [entry["epoch"] for entry in folder.take_news()] == [1, 2, 3]
    assert folder.take_news() == []


def test_remains_of_a_killed_writer_are_swept(folder):
    for name in (".best.abc", ".last.old.xyz", "checkpoints/.step-00000003.q", "history/.step-00000003.q"):
        (folder.out / name).mkdir(parents=True)
    folder.close()
    RunFolder(folder.out).open("", {})
    assert sorted(path.name for path in folder.out.rglob(".*")) == [".lock"]


@pytest.mark.parametrize("count", range(1, 6))
def test_a_kill_while_folders_are_replaced_leaves_the_old_or_the_new_ones(folder, monkeypatch, count):
    folder.save_checkpoint(7, {"state": b"old"}, {"best": {"model.json": b"old"}})
    with monkeypatch.context() as patch, nullcontext() if count == 5 else pytest.raises(Killed):
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # the dead tidy nothing up
        killed_at(patch, os, "rename", count)
        folder.save_checkpoint(7, {"state": b"new"}, {"best": {"model.json": b"new"}})
    folder.close()
    again = RunFolder(folder.out)
    again.open("", {})
    assert (again.out / "best" / "model.json").read_bytes() == (b"old" if count <= 2 else b"new")
    assert again.checkpoint() == {"state": b"old" if count <= 4 else b"new"}
    assert sorted(path.name for path in folder.out.rglob(".*")) == [".lock"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "run").open("", {})


def test_what_counts_is_on_the_disk(tmp_path):
    """Should the power fail, each name stands for what was written, and it is the one that was given last."""
    folder = RunFolder(tmp_path / "run")
    with watched_disk() as disk:
        folder.open("system: show_tell\n", {"seed": 3})
        for epoch in (1, 2, 3):
            model = {"model.json": b"{}", "weights": bytes([epoch])}
            folder.epoch({"epoch": epoch}, [{"caption": "a"}])
            folder.save_checkpoint(epoch * 10, {"state": b"s"}, {"last": model, "best": model}, history=2)
        folder.save_average(model, {"epoch": 3})
    disk.check()
    names = {rename.to.name for rename in disk.renames}
    assert names >= {"run.json", "recipe.yaml", "last", "best", "averaged", "step-00000030"}
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert (folder.out / name).stat().st_ino in disk.synced
