"""Dense against sparse, over sparsities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aerogel import _core
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
) -> tuple[_core.WeightSource, list[np.ndarray]]:
    """Gaussian weights [n, k] without the smallest, as magnitude pruning leaves them, and what must be kept alive."""
    w = np.random.default_rng(seed).standard_normal((n, k), np.float32)
    if sparsity:
        w[np.abs(w) < np.quantile(np.abs(w[: max(1, 2**20 // k)]), sparsity)] = 0
    source = _core.WeightSource(k)
    if numbers == "bf16":
        codes = (w.view(np.uint32) >> 16).astype(np.uint16)
        source.add_dense("random", codes)
        return source, [codes]
    if numbers == "float32":
        source.add_dense("random", w)
        return source, [w]
    group = 64 if numbers == "int8g" else 0
    scale = np.full((n, -(-k // group)) if group else n, 0.03, np.float32)
    codes = np.clip(np.rint(w / 0.03), -127, 127).astype(np.int8)
    codes[(codes == 0) & (w != 0)] = 1
    source.add_dense_q8("random", codes, scale, group)
    return source, [codes, scale]
