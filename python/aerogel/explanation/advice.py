"""What would make a model faster, from the facts of its layers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

from aerogel.explanation.naming import group_name
from aerogel.explanation.reports import LayerReport
from aerogel.tuning import WORTH_MEASURING, Curve

#: Advice is given for what takes at least this part of the time.
WORTH_SAYING = 0.03

#: The pattern of shared masks that advice is about, and where it is compared.
SHARED, SHARED_AT = "4x1", (0.8, 0.9)
#: A shared mask is worth saying where it takes at most this part of the time of unstructured zeros.
SHARED_WORTH = 0.75

#: numbers, N, K of a linear.
Shape = tuple[str, int, int]
#: Milliseconds that would be saved, and how.
Gain = tuple[float, str]


def advice(
    layers: Sequence[LayerReport],
    rest: Mapping[str, float],
    total: float,
    curves: Mapping[Shape, Curve],
    shared: Mapping[Shape, Curve],
) -> list[str]:
    """What would make the model faster, the largest gain first; the last line says what nothing here can change.

    Args:
        layers: the linears.
        rest: milliseconds by op of everything else.
        total: milliseconds of all together.
        curves: speed against sparsity, of each shape that has a sparse kernel.
        shared: the same in the pattern SHARED.
    """
    gains = [
        *_too_few_zeros(layers, curves),
        *_dense(layers, curves),
        *_more_zeros(layers, curves),
        *_shared_masks(layers, curves, shared),
        *_late(layers),
    ]
    worth = [(ms, f"{text} (about {ms:.2f} of {total:.2f} ms)") for ms, text in gains if ms >= WORTH_SAYING * total]
    said = [text for _, text in sorted(worth, key=lambda gain: -gain[0])]
    return [*_floats(layers, total), *said, _limit(layers, rest, total)]


def _floats(layers: Sequence[LayerReport], total: float) -> list[str]:
    floats = [layer for layer in layers if layer.numbers in ("float32", "float16")]
    if not floats:
        return []
    share = sum(layer.measured_ms for layer in floats) / total
    return [f"{_names(floats)}: {floats[0].numbers} weights, {share:.0%} of the time: compress with --quant int8 first"]


def _too_few_zeros(layers: Sequence[LayerReport], curves: Mapping[Shape, Curve]) -> Iterator[Gain]:
    """Layers with zeros, but fewer than their shape needs to gain from them."""
    few = [layer for layer in layers if layer.wins_from and WORTH_MEASURING / 5 <= layer.sparsity < layer.wins_from]
    for shape, group in _by_shape(few):
        wins = group[0].wins_from
        assert wins is not None
        target = min(0.95, wins + 0.2)
        saved = sum(layer.dense_ms for layer in group) * (1 - 1 / curves[shape].gain(target))
        yield (
            saved,
            f"{_names(group)}: {_mean_sparsity(group):.0%} zeros are too few: at this shape sparse wins from {wins:.0%}; "
            f"prune to {target:.0%}, or leave the zeros out of it",
        )


def _dense(layers: Sequence[LayerReport], curves: Mapping[Shape, Curve]) -> Iterator[Gain]:
    """Layers without zeros that would gain from them."""
    dense = [layer for layer in layers if layer.sparsity < WORTH_MEASURING / 5 and _shape(layer) in curves]
    for shape, group in _by_shape(dense):
        factor = curves[shape].gain(0.8)
        if factor > 1:
            saved = sum(layer.measured_ms for layer in group) * (1 - 1 / factor)
            yield saved, f"{_names(group)}: dense: pruned to 80 % this shape is {factor:.1f}x faster here"


def _more_zeros(layers: Sequence[LayerReport], curves: Mapping[Shape, Curve]) -> Iterator[Gain]:
    """Layers that gain from their zeros, and would gain more from more."""
    sparse = [layer for layer in layers if layer.wins_from and layer.wins_from <= layer.sparsity < 0.88]
    for shape, group in _by_shape(sparse):
        factor = curves[shape].gain(0.9) / curves[shape].gain(_mean_sparsity(group))
        if factor > 1:
            saved = sum(layer.measured_ms for layer in group) * (1 - 1 / factor)
            yield saved, f"{_names(group)}: {_mean_sparsity(group):.0%} zeros: 90 % would be {factor:.1f}x faster here"


def _shared_masks(
    layers: Sequence[LayerReport], curves: Mapping[Shape, Curve], shared: Mapping[Shape, Curve]
) -> Iterator[Gain]:
    """Layers that rows with one mask would make much faster than as many zeros anywhere."""
    found: dict[float, list[tuple[LayerReport, float, float]]] = {}
    for layer in layers:
        shape = _shape(layer)
        if layer.pattern not in ("dense", "unstructured") or shape not in shared or shape not in curves:
            continue
        sparsity = SHARED_AT[0] if layer.sparsity < statistics.mean(SHARED_AT) else SHARED_AT[-1]
        anywhere, together = curves[shape].share(sparsity), shared[shape].share(sparsity)
        if together <= SHARED_WORTH * anywhere:
            found.setdefault(sparsity, []).append((layer, layer.dense_ms * anywhere, layer.dense_ms * together))
    for sparsity, group in found.items():
        before, after = sum(ms for _, ms, _ in group), sum(ms for _, _, ms in group)
        yield (
            before - after,
            f"{_names([layer for layer, _, _ in group])}: {SHARED} at {sparsity:.0%} would take {after / before:.2f} of the "
            "time of as many unstructured zeros, at a loss of accuracy (MiniLM at 80%: 97.4 % kept, 99.1 % unstructured)",
        )


def _late(layers: Sequence[LayerReport]) -> Iterator[Gain]:
    """Layers that take much longer in the model than their kernel by itself."""
    for layer in layers:
        if layer.predicted_ms and layer.measured_ms > 1.5 * layer.predicted_ms:
            yield (
                layer.measured_ms - layer.predicted_ms,
                f"{layer.name}: takes {layer.measured_ms / layer.predicted_ms:.1f}x what its kernel takes alone: other "
                "programs on this machine, or weights that the caches do not hold",
            )


def _limit(layers: Sequence[LayerReport], rest: Mapping[str, float], total: float) -> str:
    """What pruning can gain at most."""
    linear = sum(layer.measured_ms for layer in layers)
    largest = sorted(rest.items(), key=lambda pair: -pair[1])[:3]
    named = ", ".join(f"{op} {ms / total:.0%}" for op, ms in largest)
    return (
        f"linear layers take {linear / total:.0%} of the time; the rest ({named}) does not depend on the weights: "
        f"pruning can gain at most {total / max(total - linear, 1e-9):.1f}x from here"
    )


def _shape(layer: LayerReport) -> Shape:
    return (layer.numbers, *layer.shape)


def _by_shape(layers: Iterable[LayerReport]) -> Iterator[tuple[Shape, list[LayerReport]]]:
    groups: dict[Shape, list[LayerReport]] = {}
    for layer in layers:
        groups.setdefault(_shape(layer), []).append(layer)
    yield from groups.items()


def _mean_sparsity(layers: Sequence[LayerReport]) -> float:
    return statistics.mean(layer.sparsity for layer in layers)


def _names(layers: Sequence[LayerReport]) -> str:
    return group_name([layer.name for layer in layers])
