"""The systems by name. A module here is a system; nothing else has to be told of a new one.

``find("show_tell")`` imports ``rnncond.systems.show_tell``; a dotted name such as ``mylab.my_system`` imports that
module, so a system can live outside this package. Either defines ``Config`` and ``Model``.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import NamedTuple

from rnncond.contract import System


class Entry(NamedTuple):
    name: str
    Config: type
    Model: type[System]


def names() -> list[str]:
    """The systems that come with the project, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> Entry:
    """The system called ``name``.

    Raises:
        ValueError: no such system; the message lists the known ones and the nearest spelling.
    """
    if "." in name:
        module = importlib.import_module(name)
    elif name in names():
        module = importlib.import_module(f"{__name__}.{name}")
    else:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no system is called {name!r}; there are {', '.join(names())}.{hint}")
    return Entry(name, module.Config, module.Model)


def build(name: str, config: dict) -> System:
    """A freshly initialised model of system ``name`` from plain config values."""
    entry = find(name)
    return entry.Model(entry.Config(**config))
