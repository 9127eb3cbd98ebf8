"""The recipe of structured pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeGuard

from aerogel._util.checks import one_of
from aerogel.errors import RecipeError
from aerogel.structure.scores import score

SCOPES = ("layer", "global")
#: No model has so much of anything.
LARGEST = 2**63


@dataclass(frozen=True)
class StructureRecipe:
    """How much of each kind is kept, and how it is chosen.

    An amount says how much is kept: a float is a fraction, up to 1.0; an integer is a number (in every layer). A list has
    one amount for each layer.

    Attributes:
        ffn: FFN channels.
        heads: attention heads with their keys and values (where queries share keys and values, with all that share them).
        queries: query heads that share keys and values with others; each group keeps the same number.
        hidden: channels of the hidden states; one amount.
        layers: whole layers: an amount, or the list of those to keep, counted from 0.
        score: one of `aerogel.structure.SCORES`.
        scope: "layer": each layer keeps its amount; "global": all layers together do, and the best units are kept in
            whichever layer they are.
        compensate: change the weights that read the units so that they make up for those removed (least squares on the
            calibration's statistics).
        damping: how much of the mean square of the inputs is added to their squares when solving for that.
        multiple: the number of channels kept is a multiple of it, which suits the kernels.
    """

    ffn: float | Sequence[float] | None = None
    heads: float | Sequence[float] | None = None
    queries: float | Sequence[float] | None = None
    hidden: float | None = None
    layers: float | Sequence[int] | None = None
    score: str = "contribution"
    scope: str = "layer"
    compensate: bool = True
    damping: float = 0.01
    multiple: int = 8

    def __post_init__(self) -> None:
        one_of("scope", self.scope, SCOPES, RecipeError)
        for kind in ("ffn", "heads", "queries", "hidden", "layers"):
            if _is_list(getattr(self, kind)):
                object.__setattr__(self, kind, tuple(getattr(self, kind)))  # lists and tuples are the same recipe
        for kind in ("ffn", "heads", "queries", "hidden"):
            value = getattr(self, kind)
            if _is_list(value):
                if kind == "hidden" or self.scope == "global":
                    why = "as they are the same in all layers" if kind == "hidden" else "with scope 'global'"
                    raise RecipeError(f"{kind}: expected one amount {why}, got a list")
                for entry in value:
                    _check_amount(kind, entry)
            elif value is not None:
                _check_amount(kind, value)
        if _is_list(self.layers):
            if not self.layers or any(type(i) is not int or i < 0 for i in self.layers):
                raise RecipeError(f"layers: expected the numbers of those that stay, got {list(self.layers)!r:.80}")
            if sorted(set(self.layers)) != list(self.layers):
                raise RecipeError(f"layers: expected each once and in order, got {list(self.layers)!r:.80}")
        elif self.layers is not None:
            _check_amount("layers", self.layers)
        score(self.score)
        if not isinstance(self.compensate, bool):
            raise RecipeError(f"compensate: expected true or false, got {self.compensate!r}")
        if not _is_number(self.damping) or self.damping < 0:
            raise RecipeError(f"damping: expected a number that is not negative, got {self.damping!r}")
        if type(self.multiple) is not int or self.multiple < 1:
            raise RecipeError(f"multiple: expected a whole number of at least 1, got {self.multiple!r}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> StructureRecipe:
        """A recipe from plain values, as YAML or JSON have them; `dataclasses.asdict` is the way back."""
        if not isinstance(values, Mapping):
            raise RecipeError(f"structure: expected keys and values, got {values!r:.60}")
        known = [field.name for field in fields(cls)]
        unknown = [str(key) for key in values if key not in known]
        if unknown:
            raise RecipeError(f"structure: {', '.join(unknown)}: unknown, only {', '.join(known)}")
        return cls(**{str(key): value for key, value in values.items()})


def amount_of(kind: str, amount: float, count: int) -> float:
    """How many of `count` units an amount means, not rounded."""
    if amount > count:
        raise RecipeError(f"{kind}: expected at most {count}, got {amount:g}")
    return amount if isinstance(amount, int) else amount * count


def _check_amount(kind: str, value: Any) -> None:
    if not _is_number(value) or value <= 0 or (isinstance(value, float) and value > 1):
        raise RecipeError(f"{kind}: expected a fraction up to 1.0 or the whole number that stays, got {value!r:.80}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -LARGEST < value < LARGEST  # also refuses NaN


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))
