"""Dense against sparse, over sparsities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aerogel._core import WeightSource
from aerogel.tuning.layers import Layer, dense_format, formats_of
from aerogel.tuning.measure import measured

#: Where curves are measured.
SPARSITIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
#: Curves of larger layers are measured on fewer outputs: their course is the same.
CURVE_WEIGHTS = 1 << 22


@dataclass(frozen=True)
class Curve:
    """Dense against the best sparse format of one shape, over sparsities of random patterns; seconds of a call."""

    sparsities: tuple[float, ...]
    dense: tuple[float, ...]
    sparse: tuple[float, ...]

    def gain(self, sparsity: float) -> float:
        """How many times faster than dense the best sparse format is, interpolated."""
        gains = [d / s for d, s in zip(self.dense, self.sparse, strict=True)]
        return float(np.interp(sparsity, self.sparsities, gains))

    @property
    def wins_from(self) -> float | None:
        """The sparsity from which on sparse wins; None if it never does. At most the lowest one measured."""
        ahead = [s < d for d, s in zip(self.dense, self.sparse, strict=True)]
        if not ahead[-1]:
            return None
        last = max((i for i, won in enumerate(ahead) if not won), default=-1)  # dense wins here for the last time
        if last < 0:
            return self.sparsities[0]
        low, high = self.sparsities[last], self.sparsities[last + 1]
        behind, gained = self.sparse[last] / self.dense[last] - 1, 1 - self.sparse[last + 1] / self.dense[last + 1]
        return low + (high - low) * behind / (behind + gained)


def curve(numbers: str, n: int, k: int, rows: int, threads: int, streamed: bool = False) -> Curve | None:
    """The curve of a shape at a number of rows, measured now or remembered; None if no sparse format serves here."""
    part = min(n, max(64, CURVE_WEIGHTS // k // 64 * 64))
    dense, sparse = [], []
    for sparsity in SPARSITIES:
        layer = Layer(numbers, part, k, sparsity, "unstructured", threads, streamed)
        if len(formats_of(layer)) == 1:
            return None
        source, alive = random_source(numbers, part, k, sparsity)
        times = measured(source, layer)
        del alive
        dense.append(n / part * times.at(dense_format(numbers), rows))
        sparse.append(n / part * min(times.at(f, rows) for f in times.seconds if f != dense_format(numbers)))
    return Curve(SPARSITIES, tuple(dense), tuple(sparse))


def random_source(
    numbers: str, n: int, k: int, sparsity: float, seed: int = 0
) -> tuple[WeightSource, list[np.ndarray]]:
    """Gaussian weights [n, k] without the smallest, as magnitude pruning leaves them, and what must be kept alive."""
    w = np.random.default_rng(seed).standard_normal((n, k), np.float32)
    if sparsity:
        w[np.abs(w) < np.quantile(np.abs(w[: max(1, 2**20 // k)]), sparsity)] = 0
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
