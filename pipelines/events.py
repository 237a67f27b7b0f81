"""What happens in a verb as lines of JSON, for programs: ``--events FILE``.

Each line has ``time`` (seconds since 1970) and ``event``: ``phase`` (what is going on), ``progress`` (``done`` and
``failed`` of ``total``, ``rate`` a second; at most one a second), ``outcome`` or ``error``.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from typing import Any

from pipelines.errors import UserError


class EventLog:
    """A file that events are added to; none until ``open`` is called. For several threads."""

    def __init__(self) -> None:
        self.descriptor: int | None = None
        self.lock = threading.Lock()

    def open(self, path: str) -> None:
        """
        Raises:
            UserError: the file cannot be written.
        """
        self.close()
        try:
            self.descriptor = os.open(os.path.expanduser(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise UserError(f"--events {path}: no file can be written there: {error.strerror}.") from None

    def emit(self, event: str, **fields: Any) -> None:
        """Add a line, in one write; nothing where no file is open. A full disk ends no verb."""
        if self.descriptor is None:
            return
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, default=str) + "\n"
        with self.lock, suppress(OSError):
            os.write(self.descriptor, line.encode())

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


EVENTS = EventLog()
"""Of this process."""
