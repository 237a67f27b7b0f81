"""Logging: off by default, with ``--log-level`` to standard error; in workers to the log files of Ray.

Each module that has something to log has a logger of its own name.
"""

from __future__ import annotations

import logging
import os

LEVEL = "RNNCOND_LOG_LEVEL"
"""The variable by which workers learn the level; it may be set in place of ``--log-level``."""
OURS = ("pipelines", "rnncond", "feature_store")
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure(level: str) -> None:
    """Let this project's loggers write from ``level`` on to standard error, in this process and its workers."""
    os.environ[LEVEL] = level
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    for name in OURS:
        logger = logging.getLogger(name)
        logger.setLevel(level.upper())
        logger.handlers = [handler]


def configure_worker() -> None:
    """The same in a process that Ray has begun, whose standard error is a file of Ray's."""
    if level := os.environ.get(LEVEL):
        configure(level)


def for_workers() -> dict[str, object]:
    """What Ray is told when it starts, so that its workers log, too; nothing where nobody asked for it."""
    level = os.environ.get(LEVEL)
    hook = "pipelines.logs.configure_worker"
    return {"env_vars": {LEVEL: level}, "worker_process_setup_hook": hook} if level else {}
