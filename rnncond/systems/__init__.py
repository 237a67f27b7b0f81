"""The systems by name. A module here is a system; nothing else has to be told of a new one.

``find("show_tell")`` imports ``rnncond.systems.show_tell``; a dotted name such as ``mylab.my_system`` imports that
module, so a system can live outside this package. Either defines ``Config`` and ``Model``.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType
from typing import Any, NamedTuple

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
        ValueError: no such system; the message lists the known ones and the nearest spelling, or says where a module
            was looked for.
    """
    if "." in name:
        module = outside(name)
    elif name in names():
        module = importlib.import_module(f"{__name__}.{name}")
    else:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no system is called {name!r}.{hint} There are {', '.join(names())}.")
    missing = [part for part in ("Config", "Model") if not hasattr(module, part)]
    if missing:
        raise ValueError(f"{name} has no {' and no '.join(missing)}, so it is no system")
    return Entry(name, module.Config, module.Model)


def outside(name: str) -> ModuleType:
    """The module of a dotted name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"no system is called {name!r}: Python finds no module {error.name}. Install it, or put its folder in "
            "PYTHONPATH, on every machine that trains or captions"
        ) from None


def build(name: str, config: dict[str, Any]) -> System:
    """A freshly initialised model of system ``name`` from plain config values."""
    entry = find(name)
    return entry.Model(entry.Config(**config))
