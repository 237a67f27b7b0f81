"""The command line of ``rnncond translate``."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from pipelines.cli import options
from pipelines.cli.options import SEARCH
from pipelines.config.choices import TooLong
from pipelines.console import Outcome
from pipelines.workflow.commands import Output

app = options.application()

EXAMPLES = """
Examples:

  rnncond translate test.en --model runs/encdec_bidirectional.small --out translated --text test.de

  rnncond translate news.jsonl.gz --model models:/translator@champion --out translated --attention --nbest 3

  echo "a man rides a horse" | rnncond translate - --model runs/encdec_bidirectional.small     (without Ray)

  rnncond translate test.en --model runs/first --ensemble runs/second --ensemble runs/third --out translated

Run the same command again to resume after an interruption.
"""


@app.command(epilog=EXAMPLES)
def translate(
    text: Annotated[
        str,
        Argument(
            metavar="TEXT",
            help="sentences: lines of a file (.gz, .zst too), .tsv, .csv, .jsonl or .parquet; "
            "- for lines of standard input, which are translated to standard output",
        ),
    ],
    model: options.Model,
    out: Annotated[
        str | None,
        Option(help="the translations' store, a folder or uri; made if it is not there. Only `-` does without"),
        Output(),
    ] = None,
    lines: Annotated[
        str | None,
        Option(
            "--text",
            help="also write the translations to this file, in the order of TEXT: a line each, or by its name .csv, "
            ".tsv or .jsonl with sources and scores (.gz too); `lines` in a pipeline",
        ),
        Output(),
    ] = None,
    column: Annotated[str, Option(help="column to translate, where TEXT is a table")] = "source",
    max_source_length: Annotated[
        int | None, Option(min=1, help="tokens read of a sentence (default: text.max_length of the recipe, or 200)")
    ] = None,
    too_long: Annotated[TooLong, Option(help="what to do with longer sentences")] = "cut",
    ensemble: Annotated[list[str] | None, Option(help="a further model of the same vocabularies; repeatable")] = None,
    retry_failed: options.RetryFailed = False,
    redo_changed: options.RedoChanged = False,
    takeover: options.Takeover = False,
    tracking_uri: options.TrackingUri = None,
    beam: options.Beam = None,
    nbest: Annotated[
        int | None,
        Option(
            min=1, help="translations kept of each sentence, at most the beam size (default: 1)", rich_help_panel=SEARCH
        ),
    ] = None,
    attention: options.Attention = False,
    unk_replace: Annotated[
        bool,
        Option(
            "--unk-replace",
            help="let the model write UNK, and put in its place the source word with the largest attention",
            rich_help_panel=SEARCH,
        ),
    ] = False,
    max_length: options.MaxLength = None,
    min_length: options.MinLength = None,
    length_penalty: options.LengthPenalty = None,
    alpha: options.Alpha = None,
    coverage_penalty: options.CoveragePenalty = None,
    no_repeat_ngram: options.NoRepeatNgram = None,
    samples: options.Samples = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    seed: options.Seed = None,
    precision: options.Precision = "float32",
    limit: options.Limit = None,
    dry_run: options.DryRun = False,
    sample: options.Sample = 64,
    price_per_hour: options.PricePerHour = None,
    rows_per_part: options.RowsPerPart = None,
    retry_seconds: options.RetrySeconds = 60,
    workers: options.Workers = None,
    wait: options.Wait = 3600,
    gpus: options.Gpus = None,
    address: options.Address = None,
) -> Outcome:
    """Translate the sentences of TEXT that OUT has no translation of yet."""
    from feature_store.retry import retrying_for
    from pipelines.engine.driver import Options
    from pipelines.verbs.translate import run

    work = Options(
        workers, gpus, rows_per_part, retry_failed, takeover, address, redo_changed, retry_seconds, wait,
        limit=limit, dry_run=dry_run, sample=sample, price_per_hour=price_per_hour,
    )  # fmt: skip
    asked = options.search_options(
        beam=beam, nbest=nbest, max_length=max_length, min_length=min_length, length_penalty=length_penalty,
        alpha=alpha, coverage_beta=coverage_penalty, no_repeat_ngram=no_repeat_ngram, samples=samples,
        temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, precision=precision,
    )  # fmt: skip
    with retrying_for(retry_seconds):
        return run(
            text, model, out, ensemble=ensemble or (), column=column, lines=lines, options=work,
            unk_replace=unk_replace, max_source_length=max_source_length, too_long=too_long, attention=attention,
            tracking_uri=tracking_uri, **asked,
        )  # fmt: skip
