"""Running the formats of a layer against each other."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from aerogel._core import WeightSource, time_linears
from aerogel._core import pack as pack_weight
from aerogel._util.checks import number
from aerogel.errors import AerogelError
from aerogel.tuning.cache import Cache
from aerogel.tuning.choice import PURPOSES, ROWS, Forms, Times, choose
from aerogel.tuning.layers import Layer, chosen_without_measuring, dense_format, formats_of, layer_of, numbers_of

log = logging.getLogger("aerogel")


class Tuner:
    """Measures kinds of layers and remembers them, in memory and in the cache folder.

    Args:
        threads: of the team that will run the layers.
        streamed: see `Layer`.
        memory: see `choose`.
        purpose: "encode" or "generate".
    """

    def __init__(
        self, threads: int, streamed: bool = False, memory: float | None = None, purpose: str = "encode"
    ) -> None:
        if memory is not None:
            number("memory", memory, 0, above=True)
        self.threads = threads
        self.streamed = streamed
        self.memory = memory
        self.weights = PURPOSES[purpose]
        self.measured: list[Layer] = []  # by this tuner, not found in the cache
        if memory is not None and not enabled():
            log.warning("AEROGEL_TUNE=off: formats go by the sparsity alone, the limit of memory is not kept")

    def known(self, source: WeightSource) -> Forms | str | None:
        """The forms for these weights, or None if their kind of layer has to be measured first."""
        only = chosen_without_measuring(source)
        if only is not None:
            return only
        if not enabled():
            return "auto"
        times = remembered(layer_of(source, self.threads, self.streamed))
        return None if times is None else self._choose(source, times)

    def measure(self, source: WeightSource) -> Forms:
        """The forms for these weights, measured on them. Nothing else of this process should run meanwhile."""
        layer = layer_of(source, self.threads, self.streamed)
        times = measured(source, layer)
        self.measured.append(layer)
        return self._choose(source, times)

    def _choose(self, source: WeightSource, times: Times) -> Forms:
        return choose(times, self.weights, dense_format(numbers_of(source)), self.memory)


def enabled() -> bool:
    """Whether AEROGEL_TUNE allows measuring."""
    value = os.environ.get("AEROGEL_TUNE", "on")
    if value not in ("on", "off"):
        raise AerogelError(f"AEROGEL_TUNE: expected on or off, got {value!r}")
    return value == "on"


def remembered(layer: Layer) -> Times | None:
    """The times of a kind of layer, if they are known."""
    return Cache.shared().get(layer)


def measured(source: WeightSource, layer: Layer) -> Times:
    """The times of a kind of layer: remembered ones, or measured on these weights and remembered."""
    times = remembered(layer)
    if times is None:
        times = _measure(source, layer)
        Cache.shared().put(layer, times)
    return times


def _measure(source: WeightSource, layer: Layer) -> Times:
    formats = formats_of(layer)
    packed = [pack_weight(source, format) for format in formats]
    times = Times({f: {} for f in formats}, {f: w.nbytes for f, w in zip(formats, packed, strict=True)})
    for rows in ROWS:
        # Few rows on a big model: the weights come from DRAM, so what they find in the caches is thrown out.
        evict = 2 * cache_bytes() if layer.streamed and rows <= 16 else 0
        samples = time_linears(packed, rows, layer.threads, rounds=25, seconds=0.03, evict_bytes=evict)
        for format, row in zip(formats, samples, strict=True):
            times.seconds[format][rows] = float(np.quantile(row, 0.25))
    return times


def cache_bytes() -> int:
    """Bytes of this CPU's largest cache; 32 MB where the system does not say."""
    sizes = [0]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = file.read_text(encoding="ascii").strip()
            sizes.append(int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[text[-1]])
        except (OSError, ValueError, KeyError):
            continue
    return max(sizes) or 32 << 20
