"""The command line of ``rnncond evaluate``."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from pipelines.cli import options
from pipelines.config.choices import ScoredKind, Tokenizer
from pipelines.console import Outcome
from pipelines.workflow.commands import Output

app = options.application()

EXAMPLES = """
Examples:

  rnncond evaluate --model runs/show_attend_tell --shuffled

  rnncond evaluate --model runs/mrnn --length-penalty gnmt --alpha 0.8 --no-repeat-ngram 2

  rnncond evaluate --captions captioned --data captions.jsonl

  rnncond evaluate --hypotheses results.json --references captions_val2014.json

  rnncond evaluate --model runs/encdec_bidirectional --source test.en --references test.de

  rnncond evaluate --translations translated --references test.de

  rnncond evaluate --translations translated --references pairs.csv --column de

  rnncond evaluate --hypotheses test.hyp --references test.de --lowercase
"""
WHAT, CAPTIONS, TRANSLATIONS = "What is scored: one of", "Captions", "Translations"


@app.command(epilog=EXAMPLES)
def evaluate(
    model: Annotated[
        str | None,
        Option(help="a model that captions a split, or translates: a folder, runs:/ or models:/", rich_help_panel=WHAT),
    ] = None,
    captions: Annotated[str | None, Option(help="the output of `rnncond caption`", rich_help_panel=WHAT)] = None,
    translations: Annotated[str | None, Option(help="the output of `rnncond translate`", rich_help_panel=WHAT)] = None,
    hypotheses: Annotated[
        str | None,
        Option(help="a file: COCO results, JSON lines, ID<tab>caption, or lines of translations", rich_help_panel=WHAT),
    ] = None,
    data: Annotated[
        list[str] | None,
        Option(
            "--data",
            "--references",
            help="reference captions (default: those of training), or translations; several references are repeated",
        ),
    ] = None,
    kind: Annotated[
        ScoredKind | None, Option(help="what --hypotheses holds (default: what the references look like)")
    ] = None,
    beam: options.Beam = None,
    max_length: options.MaxLength = None,
    min_length: options.MinLength = None,
    length_penalty: options.LengthPenalty = None,
    alpha: options.Alpha = None,
    coverage_penalty: options.CoveragePenalty = None,
    no_repeat_ngram: options.NoRepeatNgram = None,
    precision: options.Precision = "float32",
    out: Annotated[
        str | None,
        Option(help="folder of the results (default: the run, or the store that is scored)"),
        Output(local=True, by_default="beside", beside=("model", "captions", "translations")),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        Option(
            help="MLflow's tracking URI, where --model is of MLflow (default: MLFLOW_TRACKING_URI, or "
            "sqlite:///mlflow.db); the scores of a run go where it is tracked"
        ),
    ] = None,
    store: Annotated[str | None, Option(help="features (default: those of training)", rich_help_panel=CAPTIONS)] = None,
    split: Annotated[
        str | None,
        Option(help="train, val or test (default: val, or all of --hypotheses)", rich_help_panel=CAPTIONS),
    ] = None,
    tokenizer: Annotated[
        Tokenizer | None,
        Option(
            help="what cuts text into words: for captions ptb, which published scores use and which needs Java, or "
            "simple; for translations 13a; for either one of sacrebleu's, where no blanks part words (default: as "
            "data.target_language of the recipe needs)"
        ),
    ] = None,
    partial: Annotated[
        bool,
        Option(
            "--partial",
            help="with --hypotheses: score only the images that have both a caption and references",
            rich_help_panel=CAPTIONS,
        ),
    ] = False,
    shuffled: Annotated[
        bool, Option("--shuffled", help="also score each image with the caption of another", rich_help_panel=CAPTIONS)
    ] = False,
    fingerprint: Annotated[
        str | None,
        Option(
            "--set",
            metavar="FINGERPRINT",
            help="the set of --captions or --translations to read (default: the current one, or the only one)",
        ),
    ] = None,
    source: Annotated[
        str | None,
        Option(
            help="sentences that --model translates (default: the validation text of its recipe)",
            rich_help_panel=TRANSLATIONS,
        ),
    ] = None,
    column: Annotated[
        str | None,
        Option(
            help="column of the references, where they are a table (default: target); one called id is used as well",
            rich_help_panel=TRANSLATIONS,
        ),
    ] = None,
    lowercase: Annotated[
        bool | None,
        Option(
            "--lowercase/--cased",
            help="score without regard to case (default: if the model's vocabulary has no capitals)",
            rich_help_panel=TRANSLATIONS,
        ),
    ] = None,
) -> Outcome:
    """Score captions (BLEU, ROUGE-L, CIDEr; METEOR and SPICE where Java can run them) or translations (BLEU, chrF,
    TER) against references."""
    from pipelines.verbs.evaluate import run

    asked = options.given(
        beam=beam, max_length=max_length, min_length=min_length, length_penalty=length_penalty, alpha=alpha,
        coverage_beta=coverage_penalty, no_repeat_ngram=no_repeat_ngram,
    )  # fmt: skip
    return run(
        model=model, captions=captions, translations=translations, hypotheses=hypotheses, data=data, source=source,
        kind=kind, lowercase=lowercase, store=store, split=split, precision=precision, tokenizer=tokenizer,
        partial=partial, shuffled=shuffled, fingerprint=fingerprint, out=out, tracking_uri=tracking_uri, column=column,
        **asked,
    )  # fmt: skip
