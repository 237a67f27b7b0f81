"""The command line of ``rnncond demo``."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from pipelines.cli import options
from pipelines.console import Outcome
from pipelines.workflow.commands import Output

app = options.application()

EXAMPLES = """
Examples:

  rnncond demo

  rnncond demo --out mydemo --data captions.jsonl --weights squeezenet1_0.safetensors

Run the same command again to resume after an interruption.
"""


@app.command(epilog=EXAMPLES)
def demo(
    out: Annotated[
        str, Option(help="the folder of everything that the demo makes"), Output(local=True, by_default="here")
    ] = "demo",
    data: Annotated[str | None, Option(help="your photographs: captions.jsonl with splits train and val")] = None,
    weights: Annotated[str | None, Option(help="weights of the backbone that sees your photographs")] = None,
    backbone: Annotated[str, Option(help="the CNN that sees your photographs")] = "torchvision/squeezenet1_0",
    seed: Annotated[int, Option(min=0, help="seed of the generated world and of its CNN")] = 0,
    address: options.Address = None,
) -> Outcome:
    """Make features, train a captioner, caption pictures it has never seen, score them, and write a page."""
    from pipelines.verbs.demo import run

    return run(out, data, weights, backbone, seed, address)
