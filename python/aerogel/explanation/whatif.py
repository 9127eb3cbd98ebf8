"""What pruning to a pattern would bring, before anybody prunes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aerogel._util.checks import items, number, shown
from aerogel._util.progress import Progress
from aerogel.errors import RecipeError
from aerogel.explanation.naming import group_name
from aerogel.explanation.reports import WhatIf
from aerogel.prune import Windowed, parse_pattern
from aerogel.quantize import scheme
from aerogel.tuning import Forecast, forecast

#: Numbers of the weights by the schemes that may be asked for.
SCHEMES = {"int8": "int8", "int4:g64": "int4", "int4:g32:asym": "int4"}
#: What takes more than this part of the dense time gains nothing worth the zeros.
NO_GAIN = 0.97


@dataclass(frozen=True)
class Scenario:
    """What is asked for.

    Attributes:
        text: "sparsity=0.8,pattern=4x1".
        sparsity: of the linears inside the Transformer.
        pattern: of the zeros.
        quant: scheme of these linears; None: as they are, int8 where they are floats.
    """

    text: str
    sparsity: float
    pattern: str
    quant: str | None


def scenarios(asked: Any) -> list[Scenario]:
    """Scenarios from "KEY=VALUE,..." or {KEY: VALUE}.

    Raises:
        RecipeError: one is none; it says what was expected.
    """
    return [] if asked is None else [_scenario(each) for each in items("what_if", asked, RecipeError)]


def _scenario(asked: Any) -> Scenario:
    values = _values(asked)
    text = ",".join(f"{key}={value}" for key, value in values.items())
    try:
        wanted = values.get("sparsity")
        sparsity = None if wanted is None else number("sparsity", _number(wanted), 0, 1, RecipeError)
        pattern = parse_pattern(values.get("pattern", "unstructured"), sparsity)
        if sparsity is None and not isinstance(pattern, Windowed):
            if "pattern" in values:
                raise RecipeError(f"expected a sparsity beside the pattern {pattern}, such as sparsity=0.8, got none")
            sparsity = 0.0
        quant = None if "quant" not in values else scheme(values["quant"]).name
        if quant is not None and quant not in SCHEMES:
            raise RecipeError(f"quant: expected {' or '.join(SCHEMES)}, got {quant}")
    except RecipeError as error:
        raise RecipeError(f"what-if {text!r:.80}: {error}") from error
    return Scenario(text, pattern.sparsity if sparsity is None else sparsity, str(pattern), quant)


def _values(asked: Any) -> dict[str, Any]:
    """What stands for each key; nothing is said of the values yet."""
    expected = "expected some of sparsity=X, pattern=P and quant=Q, such as sparsity=0.8,pattern=4x1"
    if isinstance(asked, Mapping):
        pairs = list(asked.items())
    elif isinstance(asked, str):
        words = [word.partition("=") for word in asked.split(",")]
        if not all(equal and value for _, equal, value in words):
            raise RecipeError(f"what-if: {expected}, got {shown(asked)}")
        pairs = [(key.strip(), value.strip()) for key, _, value in words]
    else:
        raise RecipeError(f"what-if: {expected}, got {shown(asked)}")
    keys = [key for key, _ in pairs]
    unknown = next((key for key in keys if key not in ("sparsity", "pattern", "quant")), None)
    if not keys or unknown is not None or len(set(keys)) < len(keys):
        raise RecipeError(f"what-if: {expected}, each once, got {shown(asked)}")
    return dict(pairs)


def _number(value: Any) -> Any:
    """A number's text as that; everything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


@dataclass(frozen=True)
class Base:
    """The dense form that scenarios are seen against.

    Attributes:
        linears: what compression prunes, as `Model.describe` has it.
        times: seconds of every step of a pass: (op, name, seconds).
        tokens: of the pass.
        threads, streamed: of the model.
    """

    linears: Sequence[Mapping[str, Any]]
    times: Sequence[tuple[str, str, float]]
    tokens: int
    threads: int
    streamed: bool


def what_if(base: Base, asked: Scenario, progress: Progress | None = None) -> WhatIf:
    """What a scenario would bring."""
    seconds = {name: taken for op, name, taken in base.times if op == "linear"}
    steps = [step for step in base.linears if step["name"] in seconds]
    found = forecast(
        steps,
        seconds,
        base.tokens,
        base.threads,
        base.streamed,
        asked.pattern,
        None if asked.quant is None else SCHEMES[asked.quant],
        progress,
    )
    layers = {**seconds, **found.seconds(asked.sparsity)}
    whole = sum(taken for _, _, taken in base.times)
    linear = sum(layers.values())
    return WhatIf(
        scenario=asked.text,
        sparsity=asked.sparsity,
        pattern=asked.pattern,
        quant=asked.quant or "",
        layers={name: 1e3 * taken for name, taken in layers.items()},
        linear_ms=1e3 * linear,
        total_ms=1e3 * (whole - sum(seconds.values()) + linear),
        dense_linear_ms=1e3 * sum(seconds.values()),
        dense_total_ms=1e3 * whole,
        numbers=", ".join(dict.fromkeys(str(step["numbers"]) for step in steps)),
        notes=_notes(steps, asked, found),
    )


def _notes(steps: Sequence[Mapping[str, Any]], asked: Scenario, found: Forecast) -> list[str]:
    """The part of the dense time that linears would take, or that nothing is gained; the same is said once."""
    said: dict[str, list[str]] = {}
    for step in steps:
        said.setdefault(_note(step["name"], asked, found), []).append(step["name"])
    return [f"{group_name(names)}: {text}" for text, names in said.items()]


def _note(name: str, asked: Scenario, found: Forecast) -> str:
    """What is said of one linear."""
    curve, share = found.curves[name], found.share(name, asked.sparsity)
    if share <= NO_GAIN or not asked.sparsity:
        zeros = f"{asked.pattern} at {asked.sparsity:.0%}" if asked.sparsity else "dense"
        return f"{asked.quant} {zeros}".removeprefix("None ") + f" would take {share:.2f} of the time of dense"
    if curve is None:
        return f"no kernel of this CPU gains from zeros in {asked.pattern}"
    if curve.wins_from is None or len(curve.sparsities) == 1:
        return f"zeros in {asked.pattern} gain nothing here"
    where = "" if asked.pattern == "unstructured" else f" in {asked.pattern}"
    return f"below {curve.wins_from:.0%} zeros{where} nothing is gained here"
