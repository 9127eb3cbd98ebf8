"""Running the formats of a layer against each other."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from aerogel._core import PackedWeight, WeightSource, time_linears
from aerogel._core import pack as pack_weight
from aerogel._util.checks import number
from aerogel.errors import AerogelError
from aerogel.tuning.between import between
from aerogel.tuning.cache import Cache
from aerogel.tuning.choice import MEASURED, PURPOSES, ROWS, Forms, Times, choose
from aerogel.tuning.layers import Layer, chosen_without_measuring, dense_format, formats_of, layer_of, tiles

log = logging.getLogger("aerogel")

#: What times formats against each other: called as `time_linears`.
Timer = Callable[[Sequence[PackedWeight], int, int, int, float, bool], Sequence[Sequence[float]]]

#: What a format takes longer in a model than in a measurement: a CPU that runs one matrix again and again foresees where its
#: lists end. 16 matrices of 384x384 in turn, 50 and 80 % zeros, Zen 3: 3.4 and 1.3 % more (dense_q8 .7 and .1 %).
LEARNT: Mapping[str, float] = {"quads_q8": 1.03}
#: Calls of each format that a glance has, after one that is not counted.
GLANCES = 3
#: Calls and seconds of a longer look, whichever ends first, but for three calls.
ROUNDS, SECONDS = 25, 0.015
#: So much slower than the fastest in a glance is slower: single calls of one format differ by less than half of it.
CLEAR = 0.2
#: So near to dense a glance does not say on which side.
DOUBT = 0.1
#: Weights a thread of the rows that stand for a larger layer whose weights come from DRAM anyway: so many that handing them
#: out to the threads takes less than a hundredth of a call at one row.
PART_WEIGHTS = 1 << 21
#: Rows that stay together in such a part: a multiple of what any format takes at a time.
RUN = 64


class Tuner:
    """Measures kinds of layers and remembers them, in memory and in the cache folder.

    Args:
        threads: of the team that will run the layers.
        streamed: see `Layer`.
        memory: see `choose`.
        purpose: "encode" or "generate".
        timer: what times the formats.
    """

    def __init__(
        self,
        threads: int,
        streamed: bool = False,
        memory: float | None = None,
        purpose: str = "encode",
        timer: Timer = time_linears,
    ) -> None:
        if memory is not None:
            number("memory", memory, 0, above=True)
        self.threads = threads
        self.streamed = streamed
        self.memory = memory
        self.weights = PURPOSES[purpose]
        self._timer = timer
        self._chosen: dict[Layer, Forms] = {}
        self.measured: list[Layer] = []  # by this tuner, not found in the cache
        self._over: dict[tuple[int, int, str], float] = {}  # layers beyond the limit of memory: times their dense form
        tuned = enabled()  # a wrong setting is an error for every model
        if memory is not None and not tuned:
            log.warning("AEROGEL_TUNE=off: formats go by the sparsity alone, the limit of memory is not kept")

    def known(self, source: WeightSource) -> Forms | str | None:
        """The forms for these weights, or None if their kind of layer has to be measured first."""
        only = chosen_without_measuring(source)
        if only is not None:
            self._weigh(source, 1.0)
            return only
        if not enabled():
            return "auto"
        layer = self.kind(source)
        times = estimated(layer)
        return None if times is None else self._choose(source, layer, times)

    def kind(self, source: WeightSource) -> Layer:
        """What these weights share measurements by."""
        return layer_of(source, self.threads, self.streamed)

    def measure(self, source: WeightSource) -> Forms:
        """The forms for these weights, measured on them. Nothing else of this process should run meanwhile."""
        layer = self.kind(source)
        times = measured(source, layer, self._timer)
        self.measured.append(layer)
        return self._choose(source, layer, times)

    def _choose(self, source: WeightSource, layer: Layer, times: Times) -> Forms:
        dense = dense_format(layer.numbers)
        if layer not in self._chosen:  # a model has many layers of a kind
            self._chosen[layer] = choose(times, self.weights, dense, self.memory)
        forms = self._chosen[layer]
        self._weigh(source, sum(times.nbytes[format] for format, _ in forms) / times.nbytes[dense])
        return forms

    def _weigh(self, source: WeightSource, share: float) -> None:
        if self.memory is not None and share > self.memory:
            self._over[source.n, source.k, f"{source.sparsity:.0%}"] = share

    def say_what_is_over(self, path: str) -> None:
        """Warns where the limit of memory was not kept, since no format of a layer is so small."""
        if not self._over:
            return
        (n, k, zeros), share = max(self._over.items(), key=lambda item: item[1])
        log.warning(
            "%s: memory=%g is not kept by %d kinds of layers: the smallest format of the one of %dx%d with %s zeros takes "
            "%.3g of its dense form",
            path,
            self.memory,
            len(self._over),
            n,
            k,
            zeros,
            share,
        )


def enabled() -> bool:
    """Whether AEROGEL_TUNE allows measuring; empty, as a shell leaves it, it is not set."""
    value = os.environ.get("AEROGEL_TUNE") or "on"
    if value not in ("on", "off"):
        raise AerogelError(f"AEROGEL_TUNE: expected on or off, got {value!r}")
    return value == "on"


def remembered(layer: Layer) -> Times | None:
    """The times of a kind of layer, if they are known."""
    return Cache.shared().get(layer)


def estimated(layer: Layer) -> Times | None:
    """The times of a kind of layer, if they are known or follow from those of a sparser and a denser one."""
    return remembered(layer) or between(layer, remembered)


def measured(source: WeightSource, layer: Layer, timer: Timer = time_linears) -> Times:
    """The times of a kind of layer: remembered ones, or measured on these weights and remembered."""
    times = remembered(layer)
    if times is None:
        times = _measure(source, layer, timer)
        Cache.shared().put(layer, times)
    return times


def part_rows(layer: Layer) -> int:
    """How many rows of a layer are measured: all, but for large layers of a model whose weights come from DRAM.

    In the other models the part would stay in caches that the whole does not fit in. A call takes time in proportion to the
    rows, so every format's times of the part are those of the whole, divided by the same number.
    """
    if not layer.streamed:
        return layer.n
    rows = -(-PART_WEIGHTS * layer.threads // layer.k // RUN) * RUN
    return layer.n if 2 * rows > layer.n else rows


def _measure(source: WeightSource, layer: Layer, timer: Timer) -> Times:
    """The times of a layer, from those of a part of its rows where it is large."""
    rows = part_rows(layer)
    if rows == layer.n:
        return _measure_all(source, layer, timer)
    found = _measure_all(source.spread(rows, RUN), layer, timer)
    share = layer.n / rows
    return Times(
        {f: {r: share * taken for r, taken in by_rows.items()} for f, by_rows in found.seconds.items()},
        {f: round(share * nbytes) for f, nbytes in found.nbytes.items()},
        found.tiles,
    )


def _measure_all(source: WeightSource, layer: Layer, timer: Timer) -> Times:
    """A glance at every format, then a longer look at those between which the glance does not decide."""
    formats = formats_of(layer)
    with ThreadPoolExecutor(layer.threads, thread_name_prefix="aerogel-pack") as pool:
        packed = dict(zip(formats, pool.map(lambda format: pack_weight(source, format), formats), strict=True))
    times = Times({f: {} for f in formats}, {f: w.nbytes for f, w in packed.items()}, tiles())
    for rows in MEASURED:
        for format, taken in _look(timer, packed, rows, layer, layer.streamed).items():
            times.seconds[format][rows] = taken
    # The weights of a big model come from DRAM once a call: rows behind the first find them in the caches.
    first, most = MEASURED[-1], ROWS[-1]
    warm = {f: times.seconds[f][first] for f in formats}
    if layer.streamed:
        warm = _look(timer, packed, first, layer, False)
    for format, taken in warm.items():
        times.seconds[format][most] = times.seconds[format][first] + taken * (most - first) / first
    return times


def _look(timer: Timer, packed: Mapping[str, PackedWeight], rows: int, layer: Layer, evict: bool) -> dict[str, float]:
    """Seconds of a call in each format: a glance, then a longer look where that does not decide.

    evict: the weights come from DRAM, so what they find in the caches is thrown out.
    """

    def look(of: Sequence[str], rounds: int, seconds: float, share: float) -> dict[str, float]:
        samples = timer([packed[f] for f in of], rows, layer.threads, rounds, seconds, evict)
        return {f: LEARNT.get(f, 1.0) * float(np.quantile(row, share)) for f, row in zip(of, samples, strict=True)}

    found = look(list(packed), GLANCES, 0.0, 0.0)  # the fastest of so few calls: the one least disturbed
    close = contenders(found, dense_format(layer.numbers))
    return found | look(close, ROUNDS, SECONDS, 0.25) if close else found


def contenders(seconds: Mapping[str, float], dense: str) -> list[str]:
    """The formats that have to be told apart: those near the fastest one, and those that may be slower than dense or not.

    None where one format is ahead of all others and clearly on one side of dense: the choice is made then.
    """
    best = min(seconds.values())
    near = {f for f, taken in seconds.items() if taken < (1 + CLEAR) * best}
    doubtful = {f for f, taken in seconds.items() if abs(taken / seconds[dense] - 1) < DOUBT} - {dense}
    close = (near if len(near) > 1 else set()) | (doubtful | {dense} if doubtful else set())
    return [f for f in seconds if f in close]


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
