"""What trained models score, and how much processor time their training took: one record of many runs.

    rnncond train show_tell.flickr8k ... --out runs/show_tell
    rnncond evaluate --model runs/show_tell/best --shuffled
    python benchmarks/quality.py runs/show_tell runs/show_attend_tell [--out benchmarks/results]

Reads what training and evaluation have left in each run folder, and runs nothing. A run that was not evaluated has its
curve alone: the scores of each validation, beside the processor minutes until then. These are of the one worker, its
validations included, and compare where seconds do not: on a machine with other work.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from record import save

from pipelines.config.metrics import VALIDATED
from pipelines.config.recipe import read_recipe
from pipelines.files.jsonl import read_lines

FROM_EVALUATION = ("scores", "brevity_penalty", "without_brevity_penalty", "shuffled", "search", "tokenizer",
                   "signatures", "split", "seen", "left_out")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run folders")
    parser.add_argument("--out", type=Path, help="folder for the result as JSON")
    arguments = parser.parse_args()
    results = [run(Path(folder)) for folder in arguments.runs]
    for result in results:
        print(json.dumps({key: result[key] for key in ("run", "system", "epochs", "processor_minutes")}))
    arguments.runs = [Path(folder).name for folder in arguments.runs]
    if arguments.out:
        print(save(arguments.out, __doc__, arguments, results))


def run(folder: Path) -> dict[str, Any]:
    """The settings, the curve and the evaluation of a run."""
    recipe = read_recipe(str(folder / "recipe.yaml")).model_dump(mode="json")
    if start := recipe["training"]["start_from"]:
        recipe["training"]["start_from"] = "/".join(Path(start).parts[-2:])  # not where it lies on this machine
    curve, minutes = [], 0.0
    for line in read_lines(folder / "metrics.jsonl"):
        minutes += line["processor_seconds"] / 60
        values = {key: round(line[key], 3) for key in ("train_loss", *VALIDATED) if key in line}
        curve.append({"epoch": line["epoch"], "processor_minutes": round(minutes, 2), **values})
    result = {
        "run": folder.name,
        "system": recipe["system"],
        "seed": recipe["seed"],
        **{section: recipe[section] for section in ("text", "model", "training", "search")},
        "epochs": curve[-1]["epoch"],
        "processor_minutes": curve[-1]["processor_minutes"],
        "curve": curve,
    }
    evaluation = folder / "evaluation.json"
    if evaluation.exists():
        known = json.loads(evaluation.read_text())
        result |= {key: known[key] for key in FROM_EVALUATION if key in known}
    return result


if __name__ == "__main__":
    main()
