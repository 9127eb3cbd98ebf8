"""What zeros in a pattern would make of a model's linears, before anybody prunes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aerogel._util.progress import Progress
from aerogel.tuning.curves import Curve, curve
from aerogel.tuning.layers import dense_format


def curves_of(
    steps: Iterable[Mapping[str, Any]],
    tokens: int,
    threads: int,
    streamed: bool,
    pattern: str = "unstructured",
    *,
    numbers: str | None = None,
    sparsities: tuple[float, ...] | None = None,
    progress: Progress | None = None,
) -> dict[str, Curve | None]:
    """The curve of each linear, by its name; None where this CPU has no sparse kernel for such numbers.

    Linears of one shape share a curve.

    Args:
        steps: linears as `Model.describe` gives them.
        tokens: of a forward pass.
        threads, streamed: of the model.
        pattern: of the zeros, as pruning names it.
        numbers: a key of `FORMATS`; each linear's own unless given.
        sparsities: see `curve`.
        progress: called as progress(done, total, what).
    """
    keys = {s["name"]: (numbers or s["numbers"], *s["shape"], tokens * s["terms"]) for s in steps}
    kinds = list(dict.fromkeys(keys.values()))
    found: dict[tuple[Any, ...], Curve | None] = {}
    for done, (values, n, k, rows) in enumerate(kinds):
        if progress is not None:
            progress(done, len(kinds), f"{values} {n}x{k} {'' if pattern == 'unstructured' else pattern}".rstrip())
        found[values, n, k, rows] = curve(values, n, k, rows, threads, streamed, pattern, sparsities)
    if progress is not None:
        progress(len(kinds), len(kinds), "")
    return {name: found[key] for name, key in keys.items()}


@dataclass(frozen=True)
class Forecast:
    """What linears would take with zeros: what they take dense in a pass, times what zeros leave of it to a kernel alone.

    Everything that predicts a model's time before it is pruned goes by this.

    Attributes:
        dense: seconds of each linear in the pass of a dense form.
        curves: of each.
        factors: what the dense format of the curve's numbers takes, as a part of that of the dense form's.
    """

    dense: Mapping[str, float]
    curves: Mapping[str, Curve | None]
    factors: Mapping[str, float]

    def seconds(self, sparsity: float) -> dict[str, float]:
        """Of each linear, were this part of its weights zeros."""
        return {name: self.dense[name] * self.share(name, sparsity) for name in self.dense}

    def share(self, name: str, sparsity: float) -> float:
        """What a linear would take as a part of what it takes dense."""
        found = self.curves[name]
        return 1.0 if found is None else self.factors[name] * found.share(sparsity)


def forecast(
    steps: Sequence[Mapping[str, Any]],
    dense: Mapping[str, float],
    tokens: int,
    threads: int,
    streamed: bool,
    pattern: str = "unstructured",
    numbers: str | None = None,
    progress: Progress | None = None,
) -> Forecast:
    """What the linears among `steps` would take with zeros in a pattern.

    Args:
        dense: seconds of each in the pass of the dense form that `steps` describe.
        tokens, threads, streamed, pattern, numbers, progress: see `curves_of`.
    """
    curves = curves_of(steps, tokens, threads, streamed, pattern, numbers=numbers, progress=progress)
    other = [s for s in steps if numbers and dense_format(s["numbers"]) != dense_format(numbers)]
    own = curves_of(other, tokens, threads, streamed)
    factors = dict.fromkeys(curves, 1.0)
    for name, found in own.items():
        changed = curves[name]
        if found is not None and changed is not None:
            factors[name] = changed.dense_seconds / found.dense_seconds
    return Forecast({s["name"]: dense[s["name"]] for s in steps}, curves, factors)
