"""The pages docs/verbs/VERB.md, made from the same declarations as ``rnncond VERB --help``.

They are kept in the repository, so that they can be read where it is browsed; a test holds them to what this makes.
``make docs`` writes them: ``python -m pipelines.cli.reference docs/verbs``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from pipelines.cli.commands import VERBS, add_common, app_of

OTHERS = "Options"


def page(verb: str) -> str:
    """The page of a verb, with those of the commands below it."""
    app = app_of(verb)
    parser = typer.main.get_command(app)
    add_common(parser)
    lines = [f"# rnncond {verb}", ""]
    below = getattr(parser, "commands", {})
    if below:
        lines += [plain(parser.help), ""]
        for name, command in below.items():
            lines += [f"## rnncond {verb} {name}", "", *described(command, f"rnncond {verb} {name}")]
    else:
        lines += described(parser, f"rnncond {verb}")
    return "\n".join(lines).rstrip() + "\n"


def described(command: Any, name: str) -> Iterator[str]:
    """Usage, purpose, arguments, options by their headings, and examples of a command."""
    with command.make_context(name, [], resilient_parsing=True) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        yield from ("```", f"{name} {usage}", "```", "", plain(command.help), "")
        groups: dict[str, list[Any]] = {}
        for param in command.params:
            heading = "Arguments" if param.param_type_name == "argument" else param.rich_help_panel or OTHERS
            groups.setdefault(heading, []).append(param)
        for heading in sorted(groups, key=lambda heading: (heading != "Arguments", heading != OTHERS)):
            yield from (f"**{heading}**", "", "| | |", "|---|---|")
            yield from (row(param, context) for param in groups[heading])
            yield ""
    if command.epilog:
        yield from examples(command.epilog)


def row(param: Any, context: Any) -> str:
    names, text = param.get_help_record(context) or (param.name, "")
    return f"| `{cell(names)}` | {cell(plain(text)).replace('<', '&lt;')} |"


def examples(epilog: str) -> Iterator[str]:
    """The examples of an epilog, each line of a command as code, and what is said beside them."""
    code: list[str] = []
    for line in plain(epilog).splitlines():
        if line.startswith("  "):
            code.append(line.strip())
        elif line.strip() and code and not line.strip().endswith((".", ":")):
            code[-1] += " \\"  # a command that goes on
            code.append(f"    {line.strip()}")
        elif line.strip():
            if code:
                yield from ("```", *code, "```", "")
                code = []
            yield from (line.strip(), "")
    if code:
        yield from ("```", *code, "```", "")


def plain(text: str | None) -> str:
    """``text`` without the backslashes that keep rich from taking brackets for markup."""
    return (text or "").replace("\\[", "[").strip()


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def write(folder: Path) -> None:
    """Write the page of each verb into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for verb in VERBS:
        (folder / f"{verb}.md").write_text(page(verb), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
