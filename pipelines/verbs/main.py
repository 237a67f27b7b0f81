"""The command: ``rnncond VERB ...``. Behind each verb is a module of this package with a Typer ``app``.

Only the module of the verb asked for is imported, so that ``rnncond --help`` answers at once.
"""

from __future__ import annotations

import difflib
import os
import sys
from importlib import metadata

from rich.console import Console
from rich.table import Table

from pipelines import console
from pipelines.verbs.commands import VERBS, app_of


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exits with 0 (all done), 2 (usage or configuration), 3 (done, but some inputs failed) or 130
    (Ctrl-C)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        show_verbs()
        sys.exit(0)
    if arguments[0] == "--version":
        print(f"rnncond {version()}")
        sys.exit(0)
    verb, *rest = arguments
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        console.tell_error(f"There is no verb {verb!r}; there are {', '.join(VERBS)}.{hint}")
        sys.exit(2)
    # Before torch is loaded, here and in the workers that Ray starts here. Threads that spin while they wait for one
    # another are no faster on idle cores, and on busy ones they keep each other from the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app = app_of(verb)
    except KeyboardInterrupt:  # loading torch and Ray takes seconds
        sys.exit(console.fail(console.INTERRUPTED, "--json" in rest, 130))
    sys.exit(console.run(app, f"rnncond {verb}", rest))


def version() -> str:
    try:
        return metadata.version("rnncond")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its folder)"


def show_verbs() -> None:
    out = Console()
    out.print("[bold]rnncond[/] VERB ...   captions of pictures and translations by recurrent networks, on Ray\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for verb, purpose in VERBS.items():
        table.add_row(f"[bold]{verb}[/]", purpose)
    out.print(table)
    out.print("\n`rnncond VERB --help` has examples. Every verb takes --json: one line of JSON on standard output.")


if __name__ == "__main__":
    main()
