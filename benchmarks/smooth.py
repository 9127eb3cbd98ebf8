"""Cost against size, to find cliffs: one more token, row, column or nonzero must not cost out of proportion.

    python benchmarks/smooth.py [--axis M,N,K,zeros] [--plot FOLDER] [--quick]

Every kernel format of the instruction set in use, one thread, 80 % zeros. A cliff is a step at which the cost rises more
than in proportion and by more than TOLERANCE besides, twice measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import aerogel._core as core
import layers
from aerogel.bench import machine, plot

N, K, SPARSITY, TOLERANCE = 768, 768, 0.8, 1.25
AXES = {
    "M": list(range(1, 65)),
    "N": [32 * i + d for i in range(2, 26, 3) for d in (0, 1, 16)],
    "K": [64 * i + d for i in range(2, 13, 2) for d in (0, 1, 32)],
    "zeros": [0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5],
}
LABELS = {"M": "tokens", "N": "outputs", "K": "inputs", "zeros": "nonzeros"}


def case(axis: str, value: float, format: str):
    """(a call, how much work it is on this axis)"""
    n, k, m, sparsity = N, K, 16, SPARSITY
    if axis == "M":
        m = int(value)
    elif axis == "N":
        n = int(value)
    elif axis == "K":
        k = int(value)
    else:
        sparsity = value
    dense = format.startswith("dense")
    key = (n, k, sparsity, format)
    if key not in _packed:
        weights = layers.gaussian(n, k)
        weights = weights if dense else layers.pruned(weights, str(sparsity))
        _packed[key] = layers.pack(weights, format), weights
    (weight, weights), x = _packed[key], np.random.default_rng(0).standard_normal((m, k)).astype(np.float32)
    layers.check(weight, weights, x, core.linear(weight, x))
    return (lambda: core.linear(weight, x)), (weight.nonzeros if axis == "zeros" else value)


_packed: dict = {}


def measure(axis: str, format: str, seconds: float) -> tuple[list[float], list[float]]:
    """(sizes, microseconds): all sizes take turns."""
    runs, sizes = zip(*(case(axis, value, format) for value in AXES[axis]))
    return list(sizes), layers.microseconds(runs, seconds)


def _from_floats() -> list[str]:
    """The formats that are made of a plain matrix; 4 bits, groups and blocks of GGUF files are stored as such."""
    return [name for name in layers.formats() if not name.startswith("grouped") and not name.endswith(("q4", "f16"))]


def cliffs(sizes: list[float], cost: list[float]) -> list[int]:
    """Indices i at which going from i to i + 1 costs out of proportion."""
    steps = range(len(sizes) - 1)
    return [i for i in steps if cost[i + 1] / cost[i] > TOLERANCE * sizes[i + 1] / sizes[i]]


def smooth(axes: list[str], seconds: float, folder: Path | None) -> list[str]:
    """Measures, plots, and returns a line for every cliff."""
    found = []
    note = plot.caption(machine(1, limits=False), f"{N}x{K}, {SPARSITY:.0%} zeros, 16 tokens unless on the axis")
    for axis in axes:
        curves = {}
        for format in _from_floats():
            if axis == "zeros" and format.startswith("dense"):
                continue
            sizes, cost = measure(axis, format, seconds)
            curves[format] = (sizes, cost)
            suspects = cliffs(sizes, cost)
            if suspects:  # a neighbour may have been there: a cliff stays where it is
                again = measure(axis, format, seconds)[1]
                cost = [min(pair) for pair in zip(cost, again)]
                curves[format] = (sizes, cost)
                for i in sorted(set(suspects) & set(cliffs(sizes, cost))):
                    found.append(
                        f"{format}: {cost[i]:.1f} us at {LABELS[axis]} {sizes[i]:g}, {cost[i + 1]:.1f} at {sizes[i + 1]:g}"
                    )
        if folder is not None:
            title = f"cost against {LABELS[axis]}"
            plot.lines(folder / f"smooth-{axis}.png", title, LABELS[axis], "microseconds", curves, note)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axis", default=",".join(AXES), help="default: %(default)s")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="write smooth-*.png there")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    options = parser.parse_args()
    axes = options.axis.split(",")
    if not set(axes) <= set(AXES):
        parser.error(f"--axis: expected some of {', '.join(AXES)}, got {options.axis}")
    if options.plot is not None:
        plot.require()
    found = smooth(axes, 0.3 if options.quick else 3.0, options.plot)
    print("\n".join(found) or "no cliffs")


if __name__ == "__main__":
    main()
