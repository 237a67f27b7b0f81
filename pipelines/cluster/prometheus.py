"""What Prometheus can see of a run. Every node of a Ray cluster has an address for it; Ray puts ``ray_`` before each
name and ``_total`` behind that of a counter. docs/operating.md says what to make of them.

All is counted by the driver, which tells its node every ten seconds; the last seconds of a run may be missing.
"""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any, TypeVar

from ray.util.metrics import Counter, Gauge, Metric

from pipelines.config.metrics import VALIDATED

INPUTS = "rnncond_inputs_done", "Inputs that have a row now: images, sentences."
WITHIN = "rnncond_inputs_in_units", "Inputs that are done in units of work whose part is not committed yet."
FAILED = "rnncond_inputs_failed", "Inputs that could not be done, by the stage that they failed at."
UNITS = "rnncond_units_committed", "Units of work whose part is committed."
BYTES = "rnncond_bytes_committed", "Bytes of the committed parts."
PACE = {
    "steps": ("rnncond_train_steps", "Steps of the optimizer since the run began."),
    "epoch": ("rnncond_train_epoch", "The epoch in work, from 1."),
    "train_loss": ("rnncond_train_loss", "Mean loss of a word in this epoch so far."),
    "reward": ("rnncond_train_reward", "Mean reward of a sample in this epoch so far."),
    "learning_rate": ("rnncond_train_learning_rate", "Of the next step."),
    "words_per_second": ("rnncond_train_words_per_second", "Target words trained on, all workers, this epoch so far."),
}
"""Gauges, by the keys of a training's news."""
SCORE = "rnncond_train_score", "Of the last validation, by metric: " + ", ".join(VALIDATED) + "."


Kind = TypeVar("Kind", bound=Metric)


class BatchMeter:
    """What a batch verb counts, when Ray is there. Tags: ``kind`` (features, captions, ...) and
    ``output``, the store."""

    def __init__(self, kind: str, output: str) -> None:
        self.tags = tags = {"kind": kind, "output": output}
        self.inside: Gauge | None = None
        self.done, self.units, self.bytes = (tagged(Counter, *about, tags) for about in (INPUTS, UNITS, BYTES))
        self.failed = tagged(Counter, *FAILED, tags, "stage")

    def add(self, report: dict[str, Any]) -> None:
        """Count a unit; see ``engine.actor.REPORT``."""
        self.units.inc()
        for counter, count in ((self.done, report["rows"]), (self.bytes, report["bytes"])):
            if count:
                counter.inc(count)
        stages = Tally(report["stages"])
        stages["unknown"] = report["failed"] - stages.total()  # of a part that an attempt committed before it died
        for stage, count in stages.items():
            if count > 0:
                self.failed.inc(count, {"stage": stage})

    def within(self, count: int) -> None:
        """``count`` inputs are done in units that are in work; told every few seconds, as Ray forgets other gauges."""
        if self.inside is None and count:
            self.inside = tagged(Gauge, *WITHIN, self.tags)
        if self.inside is not None:
            self.inside.set(count)


class TrainingMeter:
    """What a training measures, when Ray is there. Tags: ``system`` and ``output``, the run's folder."""

    def __init__(self, system: str, output: str) -> None:
        tags = {"system": system, "output": output}
        self.pace = {key: tagged(Gauge, *about, tags) for key, about in PACE.items()}
        self.score = tagged(Gauge, *SCORE, tags, "metric")
        self.last: dict[str, float] = {}

    def progress(self, entry: dict[str, Any]) -> None:
        """A step, about once a second. Ray forgets a gauge that is not set again, so the scores are, too."""
        for key, gauge in self.pace.items():
            if key in entry:
                gauge.set(entry[key])
        for key, value in self.last.items():
            self.score.set(value, {"metric": key})

    def epoch(self, line: dict[str, Any]) -> None:
        self.last = {key: line[key] for key in VALIDATED if key in line}


def tagged(kind: type[Kind], name: str, description: str, tags: dict[str, str], *open_tags: str) -> Kind:
    """A metric with ``tags``, and with ``open_tags`` to be said each time. Ray takes ASCII only: in names of folders,
    other characters and line ends are escaped as in a Python string."""
    metric = kind(name, description, (*tags, *open_tags))
    metric.set_default_tags({tag: value.encode("unicode_escape").decode("ascii") for tag, value in tags.items()})
    return metric
