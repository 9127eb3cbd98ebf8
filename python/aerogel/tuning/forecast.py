"""What zeros in a pattern would make of a model's linears, before anybody prunes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aerogel._util.progress import Progress
from aerogel.tuning.curves import Curve, curve


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

    Everything that predicts how long a model takes asks here. Linears of one shape share a curve.

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
