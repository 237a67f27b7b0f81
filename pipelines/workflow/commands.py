"""What a pipeline learns about the verbs from the command line, which lies above it. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Output:
    """The mark of an option or argument that names what its verb writes.

    Attributes:
        local: only a file or folder of this machine, never object storage.
        by_default: what is written where the option is left out: "nothing"; "here", something in the current folder;
            or "beside", something in the place that one of ``beside`` names.
        beside: other parameters of the verb.
    """

    local: bool = False
    by_default: str = "nothing"
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageCommand:
    """The command behind the verb of a stage.

    Attributes:
        parser: click's command, whose parameters a stage's arguments name.
        outputs: those that name what the verb writes, by the parameter's name.
        call: runs the verb on the words of a command line, and returns its Outcome.
    """

    parser: Any
    outputs: Mapping[str, Output]
    call: Callable[[list[str]], Any]

    @property
    def uses_ray(self) -> bool:
        return any(param.name == "address" for param in self.parser.params)


Commands = Callable[[str], StageCommand]
"""Gives the command behind a verb, such as `train` or `store compact`; raises UserError where there is none."""
