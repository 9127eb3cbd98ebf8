"""Dense against sparse, over sparsities."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np

from aerogel._core import WeightSource
from aerogel.tuning.choice import Times
from aerogel.tuning.layers import WORTH_MEASURING, Layer, dense_format, formats_of, layer_of
from aerogel.tuning.measure import measured, remembered
from aerogel.tuning.zeros import own_sparsity, random_kept

#: Where curves are measured.
SPARSITIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
#: A curve of fewer points takes its dense time from the one of unstructured zeros: other programs disturb a look at times.
ENOUGH = 4
#: Curves of larger layers are measured on fewer outputs: their course is the same.
CURVE_WEIGHTS = 1 << 22


@dataclass(frozen=True)
class Curve:
    """Dense against the best sparse format of one shape, over sparsities of random zeros in a pattern; seconds of a call.

    Attributes:
        sparsities: those measured, rising; one where the pattern has its own.
        dense: in the dense format, measured beside each.
        sparse: in the fastest sparse one.
        compact: in the fastest other dense format (four bits); infinite where there is none.
    """

    sparsities: tuple[float, ...]
    dense: tuple[float, ...]
    sparse: tuple[float, ...]
    compact: float = math.inf

    def gain(self, sparsity: float) -> float:
        """How many times faster than dense the best sparse format is, interpolated."""
        gains = [self.dense_seconds / s for s in self.sparse]
        return float(np.interp(sparsity, self.sparsities, gains))

    @property
    def dense_seconds(self) -> float:
        """Of the dense format, at any sparsity: of a few short looks the one that a quarter of them is faster than."""
        return float(np.quantile(self.dense, 0.25))

    def share(self, sparsity: float) -> float:
        """What a layer with such zeros takes in the fastest format, as a part of what the dense one takes."""
        fastest = min(1.0, self.compact / self.dense_seconds)
        return fastest if sparsity < WORTH_MEASURING else min(fastest, 1 / self.gain(sparsity))

    @property
    def wins_from(self) -> float | None:
        """The sparsity from which on sparse wins; None if it never does. At most the lowest one measured."""
        dense = [min(d, self.compact) for d in self.dense]
        ahead = [s < d for d, s in zip(dense, self.sparse, strict=True)]
        if not ahead[-1]:
            return None
        last = max((i for i, won in enumerate(ahead) if not won), default=-1)  # dense wins here for the last time
        if last < 0:
            return self.sparsities[0]
        low, high = self.sparsities[last], self.sparsities[last + 1]
        behind, gained = self.sparse[last] / dense[last] - 1, 1 - self.sparse[last + 1] / dense[last + 1]
        return low + (high - low) * behind / (behind + gained)


def curve(
    numbers: str,
    n: int,
    k: int,
    rows: int,
    threads: int,
    streamed: bool = False,
    pattern: str = "unstructured",
    sparsities: tuple[float, ...] | None = None,
) -> Curve | None:
    """The curve of a shape at a number of rows, measured now or remembered; None if no sparse format serves here.

    Args:
        numbers: a key of `FORMATS`.
        n, k: outputs and inputs.
        rows: of a call; terms of the input count.
        threads, streamed: see `Layer`.
        pattern: as pruning names them: "unstructured", "4x1", "8:64x4" and so on.
        sparsities: where to measure, rising; `SPARSITIES` unless given, and the pattern's where it has its own.
    """
    own = own_sparsity(pattern)
    points = (own,) if own is not None else sparsities or SPARSITIES
    few = len(points) < ENOUGH and pattern != "unstructured"
    base = curve(numbers, n, k, rows, threads, streamed) if few else None
    part = min(n, max(64, CURVE_WEIGHTS // k // 64 * 64))
    dense, sparse, compact = [], [], []
    usual = dense_format(numbers)
    for sparsity in points:
        layer = _kind(numbers, part, k, sparsity, pattern, threads, streamed)
        denses = [f for f in formats_of(layer) if f == usual or f.startswith("dense")]
        others = [f for f in formats_of(layer) if f not in denses]
        if not others:
            return None
        times = _times(layer, sparsity, pattern)
        found = {f: n / part * times.at(f, rows) for f in times.seconds}
        dense.append(found[usual] if base is None else base.dense_seconds)
        sparse.append(min(found[f] for f in others))
        compact.append(min((found[f] for f in denses if f != usual), default=math.inf))
    return Curve(points, tuple(dense), tuple(sparse), statistics.median(compact))


def _kind(numbers: str, n: int, k: int, sparsity: float, pattern: str, threads: int, streamed: bool) -> Layer:
    """The kind of layer that pruning to a pattern makes, as it is told from the weights."""
    if pattern == "unstructured":
        return Layer(numbers, n, k, sparsity, pattern, threads, streamed)
    few, alive = random_source(numbers, min(n, 64), k, sparsity, pattern)
    kind = layer_of(few, threads, streamed)
    del alive
    return Layer(numbers, n, k, kind.sparsity, kind.pattern, threads, streamed)


def _times(layer: Layer, sparsity: float, pattern: str) -> Times:
    known = remembered(layer)
    if known is not None:
        return known
    source, alive = random_source(layer.numbers, layer.n, layer.k, sparsity, pattern)
    times = measured(source, layer)
    del alive
    return times


def random_source(
    numbers: str, n: int, k: int, sparsity: float, pattern: str = "unstructured", seed: int = 0
) -> tuple[WeightSource, list[np.ndarray]]:
    """Gaussian weights [n, k] with the zeros of a pattern, and what must be kept alive.

    Unstructured, the smallest are gone, as magnitude pruning leaves them; else places are drawn at random.
    """
    random = np.random.default_rng(seed)
    w = random.standard_normal((n, k), np.float32)
    if sparsity and pattern == "unstructured":
        w[np.abs(w) < np.quantile(np.abs(w[: max(1, 2**20 // k)]), sparsity)] = 0
    elif sparsity:
        w[~random_kept(n, k, sparsity, pattern, random)] = 0
    source = WeightSource(k)
    if numbers == "bf16":
        codes = (w.view(np.uint32) >> 16).astype(np.uint16)
        source.add_dense("random", codes)
        return source, [codes]
    if numbers == "float16":
        half = w.astype(np.float16)
        source.add_dense("random", half)
        return source, [half]
    if numbers == "float32":
        source.add_dense("random", w)
        return source, [w]
    if numbers in ("int4", "codebook4", "sparse codebook4"):
        return _random_four_bit(numbers, w)
    if numbers == "blocks":
        return _random_blocks(w)
    scale = np.full((n, -(-k // 64)) if numbers == "int8g" else n, 0.03, np.float32)
    codes = np.clip(np.rint(w / 0.03), -127, 127).astype(np.int8)
    codes[(codes == 0) & (w != 0)] = 1
    source.add_dense_q8("random", codes, scale, group=64 if numbers == "int8g" else 0)
    return source, [codes, scale]


def _random_blocks(w: np.ndarray) -> tuple[WeightSource, list[np.ndarray]]:
    """`random_source` in blocks of Q8_0: a float16 scale and 32 codes. k must be a multiple of 32."""
    n, k = w.shape
    codes = np.clip(np.rint(w / 0.03), -127, 127).astype(np.int8)
    codes[(codes == 0) & (w != 0)] = 1
    blocks = np.empty((n, k // 32, 34), np.uint8)
    blocks[:, :, :2] = np.frombuffer(np.float16(0.03).tobytes(), np.uint8)
    blocks[:, :, 2:] = codes.view(np.uint8).reshape(n, k // 32, 32)
    blocks = blocks.reshape(n, -1)
    source = WeightSource(k)
    source.add_blocks("random", blocks, "Q8_0")
    return source, [blocks]


def _random_four_bit(numbers: str, w: np.ndarray) -> tuple[WeightSource, list[np.ndarray]]:
    """`random_source` of integers with groups of 64, or of a codebook, with 0 among its levels or without."""
    n, k = w.shape
    source = WeightSource(k)
    scale = np.full(n, 0.03, np.float32)
    levels: np.ndarray = np.arange(-8, 8) if numbers == "int4" else np.array([*range(-120, 0, 15), *range(0, 120, 15)])
    if numbers == "sparse codebook4":
        levels = levels + 7
    levels = levels.astype(np.int8)
    step = 0.45 if numbers == "int4" else 0.03
    index = np.searchsorted((levels[1:].astype(np.float32) + levels[:-1]) / 2 * step, w).astype(np.uint8)
    kept = w != 0
    index[kept & (levels[index] == 0)] += 1  # what was kept is not 0
    groups = -(-k // 64) if numbers == "int4" else 0
    multiplier = np.full((n, groups), 15, np.uint8) if groups else None
    if kept.all():
        index = np.pad(index, ((0, 0), (0, k % 2)))
        packed, mask = _paired(index), None
    else:
        stored = np.pad(index[kept], (0, int(kept.sum()) % 2))
        packed, mask = _paired(stored), np.packbits(kept, axis=1, bitorder="little")
    source.add_indexed("random", n, packed, 4, levels, scale, mask, multiplier, None, 64 if groups else 0)
    return source, [packed, scale, *(a for a in (mask, multiplier) if a is not None)]


def _paired(index: np.ndarray) -> np.ndarray:
    """Two indices of 4 bits in each byte, the first one below."""
    packed: np.ndarray = index[..., ::2] | index[..., 1::2] << 4
    return packed
