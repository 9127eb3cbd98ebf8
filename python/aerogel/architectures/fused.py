"""Linears that files store as one: a weight, and perhaps a bias, whose rows are those of several linears end to end."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aerogel.architectures.config import Config
from aerogel.errors import ConfigError

_NUMBER = "{n}"
#: Some rows of a matrix: end to end, or their numbers.
Rows: TypeAlias = "slice | NDArray[np.int64]"


@dataclass(frozen=True)
class Fused:
    """Several linears of a family that a file stores as one. {n} is the number of a layer.

    Attributes:
        name: what the file calls the one, without .weight and .bias.
        parts: what the family calls them, in the order of their rows.
        shares: (config, layer) -> how the rows are shared out, as whole numbers in proportion; None: each part has as many.
        turns: (config, layer) -> how often the parts take turns, each with as many rows; None: their rows stand end to end.
    """

    name: str
    parts: tuple[str, ...]
    shares: Callable[[Mapping[str, Any], int], Sequence[int]] | None = None
    turns: Callable[[Mapping[str, Any], int], int] | None = None

    def match(self, tensor: str) -> tuple[int, str] | None:
        """(layer, "weight" or "bias") of the one's tensor; None: it is another tensor."""
        return _match(self._pattern, tensor)

    def match_part(self, tensor: str) -> tuple[int, str] | None:
        """As `match`, of a tensor of one of the parts."""
        return next((found for pattern in self._parts if (found := _match(pattern, tensor))), None)

    def stored(self, layer: int, kind: str) -> str:
        """The name of the one's tensor."""
        return f"{self.name}.{kind}".replace(_NUMBER, str(layer))

    def names(self, layer: int, kind: str) -> list[str]:
        """The names of the parts' tensors."""
        return [f"{part}.{kind}".replace(_NUMBER, str(layer)) for part in self.parts]

    def rows(self, total: int, config: Mapping[str, Any], layer: int) -> list[Rows]:
        """Which of the one's rows each part has: a slice, or their numbers where parts take turns.

        Raises:
            ConfigError: so many rows cannot be shared out.
        """
        if self.turns is not None:
            each, rest = divmod(total, self.turns(config, layer) * len(self.parts) or 1)
            if rest or not each:
                raise ConfigError(
                    f"config: {self.stored(layer, 'weight')}: expected rows for {len(self.parts)} times "
                    f"{self.turns(config, layer)} heads, got {total}"
                )
            numbers = np.arange(total).reshape(-1, len(self.parts), each)
            return [numbers[:, i].reshape(-1) for i in range(len(self.parts))]
        shares = [1] * len(self.parts) if self.shares is None else list(self.shares(config, layer))
        unit, rest = divmod(total, sum(shares) or 1)
        if rest or not any(shares):
            raise ConfigError(
                f"config: {self.stored(layer, 'weight')}: expected rows in the proportion "
                f"{':'.join(map(str, shares))}, got {total}"
            )
        ends = [unit * sum(shares[: i + 1]) for i in range(len(shares))]
        return [slice(end - unit * share, end) for end, share in zip(ends, shares, strict=True)]

    def joined(
        self, parts: Sequence[NDArray[np.float32]], config: Mapping[str, Any], layer: int
    ) -> NDArray[np.float32]:
        """The one, of its parts: `rows` undone."""
        whole = np.concatenate(parts)
        if self.turns is None:
            return whole
        back = np.empty(len(whole), np.int64)
        back[np.concatenate(self.rows(len(whole), config, layer))] = np.arange(len(whole))  # type: ignore[arg-type]
        return whole[back]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return _compiled(self.name)

    @cached_property
    def _parts(self) -> list[re.Pattern[str]]:
        return [_compiled(part) for part in self.parts]


def heads_of(config: Mapping[str, Any], layer: int) -> int:
    """How many heads a layer has."""
    c = Config(config)
    return c.per_layer("num_attention_heads", max(c.integer("num_hidden_layers"), layer + 1))[layer]


def query_key_value(config: Mapping[str, Any], layer: int) -> tuple[int, int, int]:
    """How the rows of queries, keys and values share one weight where some query heads share keys and values."""
    c = Config(config)
    layers = c.integer("num_hidden_layers")
    heads = c.per_layer("num_attention_heads", layers)
    kv_heads = c.per_layer("num_key_value_heads", layers, heads)
    if layer >= layers:
        raise ConfigError(
            f"config: num_hidden_layers: expected more than {layer}, as there are tensors of it, got {layers}"
        )
    return heads[layer], kv_heads[layer], kv_heads[layer]


def _compiled(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(re.escape(_NUMBER), r"(?P<layer>\d+)") + r"\.(?P<kind>weight|bias)")


def _match(pattern: re.Pattern[str], tensor: str) -> tuple[int, str] | None:
    found = pattern.fullmatch(tensor)
    return None if found is None else (int(found.groupdict().get("layer") or 0), found["kind"])
