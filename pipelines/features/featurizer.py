"""Images of a unit of work to features, one batch after the other, with reading and decoding ahead of the network."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import compress, islice

import numpy as np
import pyarrow as pa

from feature_store import Dataset, Store, feature_schema
from pipelines.cluster.resources import Plan
from pipelines.config.choices import Decoding
from pipelines.engine.failures import DEFERRED, Failures
from pipelines.engine.memory import MemoryBackoff, is_device_lost
from pipelines.features.backbones import Backbone
from pipelines.features.columns import Values, as_column, joined
from pipelines.features.detectors import Detector
from pipelines.features.loading import Loader
from pipelines.features.pixels import DecodeError
from pipelines.features.preprocess import Loaded
from pipelines.inputs.fetch import ReadError, UnreadStreak
from pipelines.threads import ahead

Network = Backbone | Detector
Outputs = dict[str, Values]
"""Of a batch of images, by name."""

NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


class Featurizer:
    """Reads, decodes and computes.

    Args:
        backbone: moved to its device already.
        batch: images a forward pass. The next two are read and decoded meanwhile.
        threads: that do so.
        decode: see ``loading.Loader``.
        cpus: of this worker.
        gathers: whether a thread gathers the next batch while the network computes: for a GPU, which would wait.
    """

    def __init__(
        self,
        backbone: Network,
        batch: int,
        threads: int,
        decode: Decoding | None = "local",
        cpus: int = 1,
        gathers: bool = False,
    ) -> None:
        self.gathers = gathers
        self.backbone, self.batch, self.halving = backbone, batch, MemoryBackoff()
        self.loader = Loader(backbone.preprocess, threads, 2 * batch + threads, decode, cpus)
        self.pool = self.loader.pool
        list(self.halving(backbone, backbone.example(batch)))  # a broken device shows here and not as an image's fault

    def __call__(self, unit: pa.Table, failures: Failures) -> Iterator[tuple[list[Loaded], Outputs]]:
        """Batches of images with their outputs; what failed is in ``failures``.

        Raises:
            UserError: nothing can be read any more.
        """
        batches = self._batches(unit, failures)
        for batch in ahead(batches, 1) if self.gathers else batches:
            yield from self._compute(batch, failures)

    def _batches(self, unit: pa.Table, failures: Failures) -> Generator[list[Loaded], None, None]:
        loaded = self._read(unit, failures)
        while batch := list(islice(loaded, self.batch)):
            yield batch

    def _read(self, unit: pa.Table, failures: Failures) -> Iterator[Loaded]:
        """The images that can be read, in order, ahead of the caller."""
        unread = UnreadStreak(unit.num_rows)
        for row, outcome in self.loader(unit.to_pylist()):
            image_id, uri, version = row["image_id"], row["uri"], row["version"]
            match outcome:
                case Loaded() as image:
                    yield image
                case None:
                    failures.add(image_id, uri, version, "list", row["problem"])
                    continue
                case ReadError() as error:
                    failures.add(image_id, uri, version, DEFERRED if error.is_of_storage else "read", str(error))
                    unread.add(error)
                    continue
                case DecodeError() as error:
                    failures.add(image_id, uri, version, "decode", str(error))
                case error:  # whatever is wrong with this image, the others are not to blame
                    failures.add(image_id, uri, version, "decode", f"{type(error).__name__}: {error}")
            unread.reset()
        unread.end()

    def _compute(self, batch: list[Loaded], failures: Failures) -> Iterator[tuple[list[Loaded], Outputs]]:
        """Outputs of a batch; of halves of it, down to the one image that fails, where the whole cannot be done."""
        begun = time.perf_counter()
        try:
            pieces = list(self.halving(lambda some: self.backbone([image.pixels for image in some]), batch))
            outputs = {name: joined([piece[name] for _, piece in pieces]) for name in pieces[0][1]}
        except Exception as error:
            if is_device_lost(error):
                raise  # and with it every image to come
            if len(batch) == 1:
                image, reason = batch[0], f"{type(error).__name__}: {error}"
                failures.add(image.image_id, image.uri, image.version, "compute", reason)
                return
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                yield from self._compute(half, failures)
            return
        self.loader.rates.computed(len(batch), time.perf_counter() - begun)
        batch = [replace(image, pixels=NO_PIXELS) for image in batch]  # which would stay in memory with their features
        finite = np.all([is_finite(values) for values in outputs.values()], axis=0)
        for image in (image for image, good in zip(batch, finite, strict=True) if not good):
            failures.add(image.image_id, image.uri, image.version, "compute", "features beyond the range of float16")
        if not finite.all():
            batch = [image for image, good in zip(batch, finite, strict=True) if good]
            outputs = {name: chosen(values, finite) for name, values in outputs.items()}
        if "boxes" in outputs:
            outputs["boxes"] = [
                boxes * np.array([image.width, image.height] * 2, np.float32)
                for boxes, image in zip(outputs["boxes"], batch, strict=True)
            ]
        if batch:
            yield batch, outputs


def is_finite(values: Values) -> np.ndarray:
    """Of an output, (B,): whether all its numbers are. float16 is looked at by its bits, five times as fast."""
    if not isinstance(values, np.ndarray):
        return np.array([np.isfinite(one).all() for one in values])
    if values.dtype != np.float16:
        return np.asarray(np.isfinite(values.reshape(len(values), -1)).all(1))
    exponents = np.ascontiguousarray(values).view(np.uint16).reshape(len(values), -1) & 0x7C00
    return exponents.max(1, initial=0) < 0x7C00


def chosen(values: Values, which: np.ndarray) -> Values:
    """Of an output the images at which ``which`` (B,) is True."""
    return values[which] if isinstance(values, np.ndarray) else list(compress(values, which))


def table_of(images: list[Loaded], outputs: Outputs, schema: pa.Schema) -> pa.Table:
    """A batch as rows of a set of features."""
    columns = {name: [getattr(image, name) for image in images] for name in schema.names[:5]}
    return pa.table(columns | {name: as_column(values) for name, values in outputs.items()}, schema=schema)


def dataset_of(network: Network, store: str) -> Dataset:
    """The set in ``store`` of the features that ``network`` computes. Its recipe has the weights' hash; beside it is
    what the user called them."""
    schema = feature_schema(network.outputs, network.shapes)
    return Store(store).dataset("features", network.recipe, schema, about={"weights": network.weights})


def featurizer_of(
    network: Network, plan: Plan, decode: Decoding | None, batch: int | None = None, threads: int | None = None
) -> Featurizer:
    """In a worker of ``plan``: its network on its device. Where the network computes on CPUs, these are all taken, so
    nobody else decodes unless the user says so."""
    network.to(plan.device)
    batch, threads = batch or network.batch, threads or 2 * plan.cpus
    decode = decode or (None if plan.gpus else "local")
    return Featurizer(network, batch, threads, decode, plan.cpus, gathers=bool(plan.gpus))
