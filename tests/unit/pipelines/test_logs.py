"""Logging is silent until it is asked for."""

from __future__ import annotations

import logging
import os

import pytest

from pipelines import logs


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setenv(logs.LEVEL, "")
    yield
    for name in logs.OURS:
        logger = logging.getLogger(name)
        logger.handlers, logger.level = [], logging.NOTSET


def test_nothing_is_said_unless_asked_for(capsys):
    logging.getLogger("pipelines.cluster.connection").info("joined")
    assert capsys.readouterr().err == ""
    assert logs.for_workers() == {}


def test_the_level_reaches_this_process_and_its_workers(capsys, monkeypatch):
    logs.configure("info")
    logging.getLogger("pipelines.cluster.connection").info("joined")
    logging.getLogger("pipelines.cluster.connection").debug("not this")
    assert capsys.readouterr().err.endswith(" INFO pipelines.cluster.connection: joined\n")
    assert logs.for_workers()["env_vars"] == {logs.LEVEL: "info"}


def test_a_worker_takes_the_level_from_its_environment(monkeypatch, capsys):
    logs.configure_worker()
    assert logging.getLogger("pipelines").handlers == []
    monkeypatch.setenv(logs.LEVEL, "debug")
    logs.configure_worker()
    logging.getLogger("pipelines.engine.work").debug("a unit")
    assert "DEBUG pipelines.engine.work: a unit" in capsys.readouterr().err
    assert os.environ[logs.LEVEL] == "debug"
