"""Images of a unit, read and decoded ahead of the network: by own threads, or with the help of other nodes.

When all images of a unit are begun and the next unit waits already (``counter``), its images follow: the network, which
ends the last batches meanwhile, would otherwise wait for the first of the next unit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from pipelines.config.choices import Decoding
from pipelines.engine.counter import COUNTER
from pipelines.features.preprocess import Fit, Loaded, Preprocess, attempt, load_some
from pipelines.threads import Upcoming

PART = "features_in"
"""Column of the inputs: number of the part, in a snapshot of the features, that has theirs; null if none has."""

Outcomes = Iterator[tuple[dict[str, Any], Loaded | Exception | None]]
"""Rows of a listing, each with its image, why there is none, or None where the listing says so."""

MEASURED = 256
"""Images after which the rates of decoding and of the network are taken to be known."""


class Rates:
    """What a worker's decoding and its network take of time."""

    def __init__(self) -> None:
        self.images_decoded = self.images_computed = 0
        self.decode_seconds = self.compute_seconds = 0.0

    def decoded(self, image: Loaded) -> None:
        self.images_decoded, self.decode_seconds = self.images_decoded + 1, self.decode_seconds + image.cpu

    def computed(self, count: int, seconds: float) -> None:
        """``count`` images went through the network in ``seconds``."""
        self.images_computed, self.compute_seconds = self.images_computed + count, self.compute_seconds + seconds

    @property
    def known(self) -> bool:
        return min(self.images_decoded, self.images_computed) >= MEASURED

    @property
    def cpus_needed(self) -> float:
        """CPUs that decode as fast as the network computes."""
        decode = self.decode_seconds / max(self.images_decoded, 1)
        return decode * self.images_computed / max(self.compute_seconds, 1e-9)

    def describe(self, cpus: int) -> str:
        network = self.images_computed / max(self.compute_seconds, 1e-9)
        own = cpus * self.images_decoded / max(self.decode_seconds, 1e-9)
        return f"the network takes {network:,.0f} images/s, its own {cpus} CPUs decode {own:,.0f}"


class Loader:
    """Called with rows of a listing, gives each with what became of it, in order.

    Args:
        preprocess: of the network.
        threads: own, that read and decode.
        ahead: images that they may have ready.
        decode: "local": by own threads alone; "cluster": also by tasks on nodes that have free CPUs; None: the latter
            once it has been measured that the own CPUs are too slow for the network.
        cpus: of this worker.

    Attributes:
        rates: the network's are told by who computes.
    """

    def __init__(
        self, preprocess: Preprocess | Fit, threads: int, ahead: int, decode: Decoding | None = "local", cpus: int = 1
    ) -> None:
        self.preprocess, self.threads, self.ahead, self.cpus = preprocess, threads, ahead, cpus
        self.decode, self.rates = decode, Rates()
        self.spread: Any = None  # a Spread, once others help
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
        self.begun: deque[tuple[dict[str, Any], Future[Any]]] = deque()

    def __call__(self, rows: list[dict[str, Any]]) -> Outcomes:
        outcomes = self._with_others(rows) if self.others_help() else self._alone(rows)
        for row, outcome in outcomes:
            if isinstance(outcome, Loaded):
                self.rates.decoded(outcome)
            yield row, outcome

    def others_help(self) -> bool:
        """Whether other nodes decode the next unit, too, which may become so as nodes come."""
        if self.decode is None and self.rates.known:
            if self.rates.cpus_needed <= self.cpus:
                self.decode, why = "local", "which is enough"
            elif are_cpus_free():
                self.decode, why = "cluster", "so other nodes decode, too"
            else:
                why = "and no other node has a free CPU; --decode cluster has the autoscaler start some"
            COUNTER.remark(f"decode {self.decode}", f"decode: {self.rates.describe(self.cpus)}, {why}")
        return self.decode == "cluster"

    def _following(self) -> list[dict[str, Any]]:
        """Rows of the next unit whose images will be read; none as long as there is no next unit."""
        unit = COUNTER.following()
        return [] if unit is None else [row for row in unit.to_pylist() if row.get(PART) is None]

    def _alone(self, rows: list[dict[str, Any]]) -> Outcomes:
        begun = [row for row, _ in self.begun]
        if begun != rows[: len(begun)]:  # others came than were expected
            self._give_up()
        upcoming = Upcoming(rows[len(self.begun) :], self._following)
        try:
            for _ in rows:
                while some := upcoming.take(self.ahead - len(self.begun)):
                    self.begun += [(row, self.pool.submit(attempt, row, self.preprocess)) for row in some]
                row, future = self.begun.popleft()
                yield row, future.result()
        except BaseException:  # also where the caller goes away in the middle
            self._give_up()
            raise

    def _give_up(self) -> None:
        for _, future in self.begun:
            future.cancel()
        self.begun.clear()

    def _with_others(self, rows: list[dict[str, Any]]) -> Outcomes:
        from pipelines.cluster.spread import Spread  # loads Ray, which one picture alone does not need

        if self.spread is None:
            here = partial(attempt, preprocess=self.preprocess)
            elsewhere = partial(load_some, preprocess=self.preprocess)
            self.spread = Spread(here, elsewhere, self.pool, self.threads, self.preprocess.most_bytes)
        self._give_up()  # what was begun before others helped
        done, cpu = self.spread.done_elsewhere, self.spread.cpu
        yield from self.spread(rows, self._following)
        COUNTER.done_elsewhere += self.spread.done_elsewhere - done
        COUNTER.cpu_elsewhere += self.spread.cpu - cpu


def are_cpus_free() -> bool:
    import ray

    return ray.available_resources().get("CPU", 0) >= 1
