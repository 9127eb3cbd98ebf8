"""How a text is to be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from aerogel._util.checks import items, number, shown, text, whole_number
from aerogel.errors import AerogelError, DataError

if TYPE_CHECKING:
    from aerogel.engine.generation.source import Source

#: Strings and characters of `stop` that are looked for behind every token.
_MOST_STOPS, _LONGEST_STOP = 64, 1024
#: Likeliest tokens that `logprobs` lists at most.
_MOST_LOGPROBS = 1000


class Drafter(Protocol):
    """A model that guesses: `Model` is one."""

    def as_source(self) -> Source:
        """The model as generations see it."""
        ...


@dataclass(frozen=True)
class Options:
    """The arguments of `Model.generate` for one text, checked.

    Attributes:
        max_new_tokens, temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty, frequency_penalty,
        logit_bias, logprobs, json_schema, regex, grammar, lookup, draft: as `Model.generate`.
        seed: None: another text each time.
        stop: strings that end the text.
        stop_ids: tokens that do; None: the model's.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None
    stop: str | Sequence[str] = ()
    stop_ids: Sequence[int] | None = None
    logprobs: int | None = None
    json_schema: Mapping[str, Any] | str | None = None
    regex: str | None = None
    grammar: str | None = None
    lookup: int = 0
    draft: Drafter | None = None

    def __post_init__(self) -> None:
        whole_number("max_new_tokens", self.max_new_tokens, 0)
        number("temperature", self.temperature, 0)
        for name in ("top_p", "typical_p"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), 0, 1, above=True)
        if self.min_p is not None:
            number("min_p", self.min_p, 0, 1)
        if self.top_k is not None:
            whole_number("top_k", self.top_k, 1, 2**31)
        if self.repetition_penalty is not None:
            number("repetition_penalty", self.repetition_penalty, 0, 1e6, above=True)
        for name in ("presence_penalty", "frequency_penalty"):
            number(name, getattr(self, name), -1e6, 1e6)
        if self.seed is not None:
            whole_number("seed", self.seed, 0, 2**64 - 1)
        if self.logprobs is not None:
            whole_number("logprobs", self.logprobs, 0, _MOST_LOGPROBS)
        whole_number("lookup", self.lookup, 0, 64)
        object.__setattr__(self, "stop", _stops(self.stop))
        object.__setattr__(self, "logit_bias", _bias(self.logit_bias))
        if self.stop_ids is not None:
            object.__setattr__(self, "stop_ids", [whole_number("stop", t, 0) for t in items("stop", self.stop_ids)])
        given = [name for name in ("json_schema", "regex", "grammar") if getattr(self, name) is not None]
        if len(given) > 1:
            raise AerogelError(f"expected one of json_schema, regex and grammar, got {' and '.join(given)}")


def options_for(count: int, values: Mapping[str, Any]) -> list[Options]:
    """The options of each of `count` texts. A list of seeds, or of lists of stop strings, has one for each; with one
    seed the texts have it, and the numbers after it.

    Raises:
        AerogelError: there is no such option, or it cannot have such a value.
    """
    known = {field.name for field in fields(Options)}
    for name in values:
        if name not in known:
            raise AerogelError(f"{name}: no such option of generation: expected one of {', '.join(sorted(known))}")
    seed, stop = values.get("seed"), values.get("stop", ())
    seeds: Sequence[Any]
    if seed is None or isinstance(seed, (bool, int)) or not hasattr(seed, "__len__"):
        base = None if seed is None else whole_number("seed", seed, 0, 2**64 - 1)
        seeds = [None if base is None else (base + i) % 2**64 for i in range(count)]
    else:
        seeds = _one_each("seed", seed, count)
    each = isinstance(stop, (list, tuple)) and any(isinstance(one, (list, tuple)) for one in stop)
    stops = _one_each("stop", stop, count) if each else [stop] * count
    return [Options(**{**values, "seed": seeds[i], "stop": stops[i]}) for i in range(count)]


def _one_each(name: str, values: Any, count: int) -> list[Any]:
    found = items(name, values)
    if len(found) != count:
        raise DataError(f"{name}: expected one for each of {count} texts, got {len(found)}")
    return found


def _stops(stop: Any) -> tuple[str, ...]:
    if isinstance(stop, str):
        stop = [stop]
    found = () if stop is None else tuple(items("stop", stop, expected="a string, or a list of them"))
    for one in found:
        if not text("stop", one, DataError) or len(one) > _LONGEST_STOP:
            raise DataError(f"stop: expected strings of 1 to {_LONGEST_STOP} characters, got {shown(one)}")
    if len(found) > _MOST_STOPS:
        raise DataError(f"stop: expected at most {_MOST_STOPS} strings, got {len(found)}")
    return found


def _bias(bias: Any) -> dict[int, float]:
    if bias is None:
        return {}
    if not isinstance(bias, Mapping):
        raise DataError(f"logit_bias: expected token ids and numbers, {{id: value}}, got {shown(bias)}")
    return {
        whole_number("logit_bias", token, 0, 2**31 - 1, DataError): number("logit_bias", value, -1e6, 1e6, DataError)
        for token, value in bias.items()
    }
