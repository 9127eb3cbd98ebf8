"""Recipes: everything that decides what a compressed model becomes, as data.

    recipe.yaml                                      the same in Python
    -----------                                      -------------------------------------------------
    prune:                                           Recipe(
      method: admm                                     prune=Prune(method="admm", sparsity=0.7,
      sparsity: 0.7                                                layers={"layers.0.*": 0.5}),
      layers: {"layers.0.*": 0.5}                      quantize=Quantize(weights="int4:g64"),
    quantize: {weights: "int4:g64"}                    calibration=Calibration(files=("train.txt",)))
    calibration: {files: [train.txt]}

Unknown keys and values of the wrong type are errors that name their place. A packed model keeps its recipe in its config.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aerogel._util.checks import number, shown
from aerogel._util.fields import check_fields, typed
from aerogel._util.reading import read_bytes
from aerogel._util.text import decoded
from aerogel.budget.bits import bits_of
from aerogel.calibrate import GENERAL, SELF
from aerogel.errors import RecipeError
from aerogel.prune import METHODS, parse_pattern
from aerogel.quantize import scheme
from aerogel.structure.recipe import StructureRecipe

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

#: Version of the recipe's keys.
VERSION = 1


@dataclass(frozen=True)
class Calibration:
    """Texts that show which inputs matter.

    Attributes:
        files: see `aerogel.calibrate.read_texts`; "general": the mix that the package carries; "self": what a language
            model writes itself.
        mix: which part of the tokens is of the general mix, 0 to 1; None: half beside other texts, if files name it.
        total: tokens that are run at most, all together; time and memory go with it. None: 65,536, for language models
            32,768.
        samples: sequences that are run at most; None: as many as make up the total.
        tokens: of one sequence at most; None: 128, for language models 512.
    """

    files: tuple[str, ...] = ()
    mix: float | None = None
    total: int | None = None
    samples: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        check_fields(self, "calibration.", RecipeError)
        for name in ("total", "samples", "tokens"):
            value = getattr(self, name)
            if value is not None:
                _at_least(f"calibration.{name}", value, 1)
        if self.mix is not None:
            _fraction("calibration.mix", self.mix)
            others = [name for name in self.files if name != GENERAL]
            if not others and self.mix < 1:
                raise RecipeError("calibration.mix: a part of the general mix goes with files of one's own")


@dataclass(frozen=True)
class Prune:
    """Which weights go.

    Attributes:
        method: one of `aerogel.prune.METHODS`; None: "admm" with calibration texts, "magnitude" without.
        sparsity: fraction that goes; None: what the pattern says, else 0: only zeros that are there stay zeros.
            Above 0.5 it needs calibration texts, or a method by name.
        pattern: "unstructured", "Q:64", "N:M", "Q:64x4", "1x4", "4x1" or "2x1".
        budget: how the sparsity is shared out among layers, one of `aerogel.budget.BUDGETS`.
        threshold: weights below this magnitude go, instead of a sparsity.
        steps: number of steps, ever smaller ones, in which the sparsity of each layer is reached (calibrated methods only).
        correct: fit the results of the dense model although the layers before are already pruned (calibrated methods only).
        weigh: errors of a layer's results count by how much they move the model's output (method admm only); None: yes, but
            not for language models, where it was not measured.
        fit_heads: the linears behind the layers, which lose no weights, are fitted to what pruned layers make; an encoder
            with a pooling gets one for that, see `output_step.py` (with `correct`, not for language models).
        layers: sparsity of layers of their own, by a pattern of their label or name such as "layers.*.ffn.up"; the last one
            that matches counts, the budget does not touch them.
    """

    method: str | None = None
    sparsity: float | None = None
    pattern: str = "unstructured"
    budget: str = "uniform"
    threshold: float | None = None
    steps: int = 1
    correct: bool = True
    weigh: bool | None = None
    fit_heads: bool = True
    layers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, "prune.", RecipeError)
        if self.method is not None and self.method not in METHODS:
            raise RecipeError(f"prune.method: {self.method!r} is unknown, only {', '.join(METHODS)}")
        parse_pattern(self.pattern, self.sparsity)
        _at_least("prune.steps", self.steps, 1)
        for name, sparsity in self.layers.items():
            _fraction(f"prune.layers.{name}", sparsity)
        if self.threshold is not None:
            if self.threshold < 0:
                raise RecipeError(f"prune.threshold: expected 0 or more, got {self.threshold}")
            if self.sparsity is not None:
                raise RecipeError("prune: sparsity and threshold exclude each other")
            if self.pattern != "unstructured":
                raise RecipeError(f"prune.threshold: goes with the pattern unstructured only, got {self.pattern}")


@dataclass(frozen=True)
class Fold:
    """Moving the scale of outlier channels from activations into weights (SmoothQuant, arXiv 2211.10438).

    Attributes:
        alpha: how much of the activations' range is moved, 0 to 1.
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, "fold.", RecipeError)
        _fraction("fold.alpha", self.alpha)


@dataclass(frozen=True)
class Quantize:
    """In how many bits weights and activations are kept.

    Attributes:
        weights: scheme of the linears inside the Transformer, see `aerogel.quantize.SCHEMES`; "auto:4.5bits": those that
            the output is sensitive to in eight bits, the others in four, on average in so many.
        head: scheme of output layers; None: that of the embeddings, which they often share.
        embeddings: scheme of the embeddings; None: int8 where the weights have integers, else that of the weights.
        rounding: "nearest", "compensated" (GPTQ, arXiv 2210.17323; needs calibration texts); None: compensated for 4 bits
            and codebooks if there are calibration texts.
        activations: "dynamic" (one scale a token) or "static" (one scale a layer, from calibration).
    """

    weights: str = "int8"
    head: str | None = None
    embeddings: str | None = None
    rounding: str | None = None
    activations: str = "dynamic"

    def __post_init__(self) -> None:
        check_fields(self, "quantize.", RecipeError)
        for name in (self.head, self.embeddings, None if bits_of(self.weights) else self.weights):
            if name is not None:
                scheme(name)
        _one_of("quantize.rounding", self.rounding, (None, "nearest", "compensated"))
        _one_of("quantize.activations", self.activations, ("dynamic", "static"))


@dataclass(frozen=True)
class Recipe:
    """A whole compression; see the parts.

    Attributes:
        structure: what is taken out as a whole before anything else.
        pack: "plain", or "small": entropy-coded, slower to load.
        seed: the random seed.
    """

    calibration: Calibration = field(default_factory=Calibration)
    structure: StructureRecipe | None = None
    prune: Prune = field(default_factory=Prune)
    fold: Fold | None = None
    quantize: Quantize = field(default_factory=Quantize)
    pack: str = "plain"
    seed: int = 0
    version: int = VERSION

    def __post_init__(self) -> None:
        check_fields(self, "", RecipeError)
        _one_of("pack", self.pack, ("plain", "small"))
        _at_least("seed", self.seed, 0)
        if self.version != VERSION:
            raise RecipeError(f"version: expected {VERSION}, got {self.version}")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recipe:
        """A recipe from a YAML file; the names of calibration files in it are relative to its folder.

        Raises:
            RecipeError: it is not YAML, or not a recipe; the message names the place.
        """
        import yaml

        data = read_bytes("recipe", path, RecipeError)
        file = Path(path)
        try:
            text = decoded(data)
            if len(text) > _MOST_TEXT:
                raise RecipeError(f"{file}: expected a recipe of at most {_MOST_TEXT} characters")
            _check_size(file, yaml.compose(text, yaml.SafeLoader))
            values = yaml.safe_load(text)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RecipeError(f"{file}: expected YAML: {' '.join(str(error).split())}") from error
        except (RecursionError, ValueError) as error:  # nested beyond Python's stack; a number or a date that is none
            raise RecipeError(
                f"{file}: expected YAML: {type(error).__name__}: {' '.join(str(error).split())}"
            ) from error
        try:
            recipe = cls.of({} if values is None else values)
        except RecipeError as error:
            raise RecipeError(f"{file}: {error}") from error
        files = tuple(name if name in (GENERAL, SELF) else str(file.parent / name) for name in recipe.calibration.files)
        return dataclasses.replace(recipe, calibration=dataclasses.replace(recipe.calibration, files=files))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Recipe:
        """A recipe from plain values, as YAML or JSON have them."""
        return _build(cls, values, "")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, everything spelled out: `Recipe.of` makes the same recipe of them."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def as_yaml(self) -> str:
        """The recipe as a YAML text."""
        import yaml

        return yaml.safe_dump(self.as_dict(), sort_keys=False)


#: Far above any recipe.
_MOST_TEXT = 1 << 20
_MOST_VALUES = 100_000


def _check_size(file: Path, root: Any) -> None:
    """Refuses YAML that stands for far more than its length: aliases of aliases, or one inside what it stands for."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Any) -> int:
        if id(node) in open_nodes:
            raise RecipeError(f"{file}: an alias stands for what it is in")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            inside = node.value if isinstance(node.value, list) else []
            parts = [part for one in inside for part in (one if isinstance(one, tuple) else (one,))]
            sizes[id(node)] = 1 + sum(size(part) for part in parts)
            open_nodes.remove(id(node))
            if sizes[id(node)] > _MOST_VALUES:
                raise RecipeError(
                    f"{file}: its aliases stand for more than {_MOST_VALUES} values, more than a recipe has"
                )
        return sizes[id(node)]

    if root is not None:
        size(root)


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with some values replaced: {"prune.sparsity": 0.5, "pack": "small"}."""
    plain = recipe.as_dict()
    for path, value in values.items():
        *parents, key = path.split(".")
        part = plain
        for parent in parents:
            if part.get(parent) is None:
                part[parent] = {}
            part = part[parent]
        part[key] = list(value) if isinstance(value, tuple) else value
    return Recipe.of(plain)


def _build(kind: type[T], values: Any, where: str) -> T:
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where or 'recipe'}: expected keys and values, got {shown(values)}")
    hints = typing.get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]
    found = {}
    for key, value in values.items():
        place = f"{where}.{key}" if where else str(key)
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f", did you mean {near[0]}?" if near else f", only {', '.join(known)}"
            raise RecipeError(f"{place}: unknown{hint}")
        found[key] = _value(hints[key], value, place)
    return kind(**found)


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` checked against a field's type; a part of a recipe comes as keys and values, or made already."""
    parts = [k for k in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(k)]
    if parts and value is not None and not isinstance(value, typing.cast("type", parts[0])):
        return _build(typing.cast("type[Any]", parts[0]), value, where)
    return typed(kind, value, where, RecipeError)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _fraction(where: str, value: float) -> None:
    number(where, value, 0, 1, RecipeError)


def _at_least(where: str, value: int, least: int) -> None:
    if value < least:
        raise RecipeError(f"{where}: expected at least {least}, got {value}")


def _one_of(where: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise RecipeError(f"{where}: {value!r} is unknown, only {', '.join(str(k) for k in known if k is not None)}")
