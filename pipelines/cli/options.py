"""Options and arguments that several verbs have, each declared once, and what they have in common.

An option that names what its verb writes carries the mark ``Output``: `submit` and `run` find out by it what a command
line writes, and where.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Argument, Option

from pipelines.config.choices import Decoding, DecodingPrecision
from pipelines.config.choices import LengthPenalty as LengthPenalties
from pipelines.workflow.commands import Output

SEARCH, SAMPLING, WORK, TRIAL = "Search", "Sampling", "Work on the cluster", "Before it is done"
"""Headings in the help of a verb."""


def application(**settings: Any) -> typer.Typer:
    """The Typer application of a verb."""
    names = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(rich_markup_mode="rich", add_completion=False, context_settings=names, **settings)


# What a verb reads
Images = Annotated[
    str,
    Argument(
        metavar="IMAGES",
        help="a folder, a glob, an s3:// or gs:// prefix, a picture, tar shards, Parquet with images, or a listing: "
        ".txt, .csv, .jsonl, .parquet",
    ),
]
Model = Annotated[
    str,
    Option(help="a folder of a run or of a model, also in s3:// or gs://; runs:/RUN_ID/PATH or models:/NAME@ALIAS"),
]
Recipe = Annotated[
    str, Argument(metavar="RECIPE", help="a YAML file, or the name of a recipe that comes with the project")
]
Overrides = Annotated[
    list[str] | None,
    Argument(metavar="KEY=VALUE", help="values in place of the recipe's: key.path=value", show_default=False),
]
Fingerprint = Annotated[
    str | None,
    Option("--set", metavar="FINGERPRINT", help="the set to read (default: the current one, or the only one)"),
]
OneOfAll = Annotated[
    str | None, Option("--set", metavar="FINGERPRINT", help="this set alone (default: all sets of the store)")
]

# What a verb writes
SaveListing = Annotated[
    str | None,
    Option(help="write what IMAGES lists to this .parquet file, to be given as IMAGES later"),
    Output(),
]

# Beam search
Beam = Annotated[int | None, Option(min=1, help="beam size; 1 is greedy search (default: 5)", rich_help_panel=SEARCH)]
Attention = Annotated[
    bool, Option("--attention", help="keep the attention weights of each word", rich_help_panel=SEARCH)
]
MaxLength = Annotated[
    int | None,
    Option(
        help="maximum length in words; the defaults of this and the next five come from the model's recipe",
        rich_help_panel=SEARCH,
    ),
]
MinLength = Annotated[int | None, Option(help="minimum length in words", rich_help_panel=SEARCH)]
LengthPenalty = Annotated[
    LengthPenalties | None,
    Option(help="divide a sentence's log-probability by 1, by its length, or as GNMT does", rich_help_panel=SEARCH),
]
Alpha = Annotated[float | None, Option(help="exponent of GNMT's length penalty", rich_help_panel=SEARCH)]
CoveragePenalty = Annotated[float | None, Option(help="weight of GNMT's coverage penalty", rich_help_panel=SEARCH)]
NoRepeatNgram = Annotated[
    int | None, Option(help="repeat no sequence of this many words; 0 allows all", rich_help_panel=SEARCH)
]
Precision = Annotated[
    DecodingPrecision,
    Option(
        help="what decoding multiplies in, where the processor has faster instructions for it; attention "
        "stays in float32. int8 is for the output layer alone: faster on a CPU where the vocabulary is large, and it "
        "changes about one sentence in a hundred",
        rich_help_panel=SEARCH,
    ),
]

# Sampling, in place of a search
Samples = Annotated[
    int | None,
    Option(min=1, help="draw so many sentences from the model, in place of beam search", rich_help_panel=SAMPLING),
]
Temperature = Annotated[
    float | None,
    Option(help="divides the logits before a draw; below 1 for likelier words (default: 1)", rich_help_panel=SAMPLING),
]
TopK = Annotated[
    int | None, Option(min=1, help="draw from the K most probable words only (default: all)", rich_help_panel=SAMPLING)
]
TopP = Annotated[
    float | None,
    Option(help="draw from the fewest words that hold this much probability (default: 1)", rich_help_panel=SAMPLING),
]
Seed = Annotated[int | None, Option(help="seed of the draws (default: 0)", rich_help_panel=SAMPLING)]

# How the work is done
Address = Annotated[
    str | None,
    Option(
        help="address of a Ray cluster, HOST:PORT or auto (default: RAY_ADDRESS, else Ray starts on this machine)",
        rich_help_panel=WORK,
    ),
]


def worker_count(text: Any) -> Any:
    """The value of --workers: a number, or (fewest, most).

    Raises:
        BadParameter: it is neither.
    """
    if isinstance(text, int | tuple):
        return text
    counts = [int(word) if word.isdecimal() else 0 for word in text.split(":")]
    if not 1 <= len(counts) <= 2 or min(counts) < 1 or counts[0] > counts[-1]:
        raise typer.BadParameter(f"found {text}; expected a number from 1, or MIN:MAX with MIN not above MAX")
    return counts[0] if len(counts) == 1 else tuple(counts)


Workers = Annotated[
    Any,
    Option(
        parser=worker_count,
        metavar="N|MIN:MAX",
        help="number of workers; with MIN:MAX it follows the nodes that come and go (default: one a GPU, or one a CPU, "
        "up to what the cluster's autoscaler may start)",
        rich_help_panel=WORK,
    ),
]
Wait = Annotated[
    float,
    Option(
        min=0,
        help="seconds to wait for room for a first worker, on a cluster that is full or has no workers yet",
        rich_help_panel=WORK,
    ),
]
Gpus = Annotated[int | None, Option(min=0, help="number of GPUs; 0 for none (default: all)", rich_help_panel=WORK)]
Decode = Annotated[
    Decoding | None,
    Option(
        help="where pictures are decoded: by each worker's own CPUs, or also by free ones of other nodes (default: by "
        "the measured rates of decoding and of the network, with a GPU; else local)",
        rich_help_panel=WORK,
    ),
]
RowsPerPart = Annotated[
    int | None, Option(min=1, help="inputs in a part of the store (default: by their size)", rich_help_panel=WORK)
]
Limit = Annotated[int | None, Option(min=1, help="do the first so many inputs only", rich_help_panel=TRIAL)]
DryRun = Annotated[
    bool,
    Option(
        "--dry-run",
        help="try a sample, and print rate, time, bytes, memory and price of the whole; nothing is kept",
        rich_help_panel=TRIAL,
    ),
]
Sample = Annotated[int, Option(min=2, help="inputs that --dry-run tries", rich_help_panel=TRIAL)]
TrainLimit = Annotated[
    int | None,
    Option(
        min=1, help="train on the first so many images or pairs only: data.train_images or data.train_lines",
        rich_help_panel=TRIAL,
    ),
]  # fmt: skip
TrainDryRun = Annotated[
    bool,
    Option(
        "--dry-run",
        help="try some steps, and print rate, time, bytes, memory and price of the whole; nothing is kept",
        rich_help_panel=TRIAL,
    ),
]
SampleSteps = Annotated[int, Option(min=2, help="steps that --dry-run tries, after a warm-up", rich_help_panel=TRIAL)]
PricePerHour = Annotated[
    str | None,
    Option(
        metavar="PRICE",
        help="what an hour of all machines together costs, as '1.20 USD'; --dry-run prints the price of the whole",
        rich_help_panel=TRIAL,
    ),
]
RetryFailed = Annotated[bool, Option("--retry-failed", help="try inputs again that failed before")]
RedoChanged = Annotated[bool, Option("--redo-changed", help="do inputs again that have changed since they were done")]
RetrySeconds = Annotated[
    float,
    Option(
        min=0,
        help="seconds for which storage is asked again that is overloaded or away, before the run goes on or ends",
        rich_help_panel=WORK,
    ),
]
Takeover = Annotated[
    bool, Option("--takeover", help="write although another writer seems to be at work; its work is then refused")
]
Restart = Annotated[bool, Option("--restart", help="throw away what OUT has, and begin again")]
Cfg = Annotated[
    bool, Option("--cfg", help="print the recipe with every default and override written out, and do nothing else")
]
TrackingUri = Annotated[
    str | None, Option(help="MLflow's tracking URI (default: MLFLOW_TRACKING_URI, or sqlite:///mlflow.db)")
]


def search_options(**values: Any) -> dict[str, Any]:
    """The options of a search that were given, and a beam; the model's recipe has the others."""
    from pipelines.inference.decoder import with_beam

    return with_beam(given(**values))


def given(**values: Any) -> dict[str, Any]:
    """The ``values`` that the user has said."""
    return {name: value for name, value in values.items() if value is not None}
