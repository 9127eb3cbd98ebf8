"""What every model family shares: checked configs, the tensors it expects, and packed weights on demand."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from aerogel import _core
from aerogel.architectures.groups import Group, Part
from aerogel.checkpoint.base import check_finite
from aerogel.errors import ConfigError, ShapeError, UnsupportedModelError
from aerogel.tuning import Forms, Tuner, dense_format, numbers_of

if TYPE_CHECKING:
    from aerogel.checkpoint import Checkpoint, Pooling, Weight

log = logging.getLogger("aerogel")


class Role(Enum):
    """What compression does with a tensor."""

    LINEAR = "linear"  # pruned and quantized
    HEAD = "head"  # quantized, not pruned: output layers lose far more by pruning than they weigh
    EMBEDDING = "embedding"  # quantized row by row
    KEPT = "kept"  # float32: norms, biases


@dataclass(frozen=True)
class Tensor:
    """A parameter that an architecture reads: its name in the checkpoint, its shape, and its role.

    `label` is the short name in messages (`layers.3.ffn.up`). `axes` names what each axis runs over ("hidden",
    "layers.3.ffn"): axes of one name belong together and shrink together; "" is an axis that never does.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    label: str
    axes: tuple[str, ...] = ()

    @staticmethod
    def over(name: str, label: str, role: Role, *axes: tuple[int, str]) -> Tensor:
        """A tensor by the size and the name of each of its axes."""
        return Tensor(name, tuple(size for size, _ in axes), role, label, tuple(axis for _, axis in axes))


#: Widths that may differ from layer to layer: the key for all layers -> the key of the list with one entry a layer.
PER_LAYER: Mapping[str, str] = {
    "intermediate_size": "intermediate_sizes",
    "num_attention_heads": "attention_heads",
    "num_key_value_heads": "key_value_heads",
}


class Config:
    """A model's `config.json`, read with checks: every refusal names the key, what was expected and what was found."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def integer(self, key: str, default: int | None = None, minimum: int = 1) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"config: {key}: expected an integer, got {value!r}")
        if value < minimum:
            raise ConfigError(f"config: {key}: expected at least {minimum}, got {value}")
        return value

    def per_layer(self, key: str, layers: int, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """A width of every layer: from the list under PER_LAYER[key] if there is one, else `key` for all of them.

        The list wins; `key` beside it has to be its largest entry. 0 is possible in a list only.
        """
        name = PER_LAYER[key]
        if self.values.get(name) is None:
            if self.values.get(key) is None and default is not None:
                return tuple(default)
            return (self.integer(key),) * layers
        values = self.values[name]
        if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
            raise ConfigError(f"config: {name}: expected a list of whole numbers, got {values!r:.80}")
        if len(values) != layers:
            raise ConfigError(f"config: {name}: expected one entry for each of {layers} layers, got {len(values)}")
        if self.values.get(key) not in (None, max(values)):
            raise ConfigError(
                f"config: {key}: expected {max(values)}, the largest of {name}, got {self.values[key]!r:.80}"
            )
        return tuple(values)

    def head_dim(self, hidden_size: int) -> int:
        """The width of an attention head: `head_dim`, or where all layers have the same heads what divides hidden_size."""
        if self.values.get(PER_LAYER["num_attention_heads"]) is not None or self.values.get("head_dim") is not None:
            return self.integer("head_dim")
        heads = self.integer("num_attention_heads")
        if hidden_size % heads:
            raise ConfigError(f"config: hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}")
        return hidden_size // heads

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value) or value < 0:
            raise ConfigError(f"config: {key}: expected a number that is not negative, got {value!r}")
        return float(value)

    def architecture(self, default: str | None) -> str | None:
        """The first entry of `architectures`, the class that the checkpoint was saved from."""
        value = self.values.get("architectures")
        if not value:
            return default
        if not isinstance(value, list) or not isinstance(value[0], str):
            raise ConfigError(f"config: architectures: expected a list of class names, got {value!r}")
        return value[0]

    def boolean(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise ConfigError(f"config: {key}: expected true or false, got {value!r}")
        return value

    def choice(self, key: str, choices: Mapping[str, str] | Iterable[str], default: str | None = None) -> str:
        """A word out of `choices`; a mapping translates it."""
        value = self._get(key, default)
        known = list(choices)
        if not isinstance(value, str) or value not in known:
            raise UnsupportedModelError(f"config: {key}: {value!r} is not supported, only {', '.join(known)}")
        return choices[value] if isinstance(choices, Mapping) else value

    def only(self, key: str, *allowed: Any) -> None:
        """Refuses a feature that the engine does not run: absent, null or one of `allowed` is accepted."""
        value = self.values.get(key)
        if value is not None and value not in allowed:
            raise UnsupportedModelError(f"config: {key}: {value!r} is not supported")

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise ConfigError(f"config: {key} is missing")
            return default
        return value


class Weights:
    """The tensors of one checkpoint as a Program wants them.

    Linears are packed, in parallel and ahead of their use; embeddings become tables, vectors float32.

    `format` is "auto": `tuner` picks; the name of a kernel format; or "dense": the dense format of whatever the values are.
    """

    def __init__(self, checkpoint: Checkpoint, tensors: Sequence[Tensor], tuner: Tuner, format: str = "auto") -> None:
        self._checkpoint = checkpoint
        self._tensors = {t.name: t for t in tensors}
        self._tuner = tuner
        self._format = format
        self._executor = ThreadPoolExecutor(max_workers=tuner.threads, thread_name_prefix="aerogel-pack")
        self._packing: dict[tuple[str, ...], Future[_core.Weight | None]] = {}
        self.table_bytes = 0

    def __enter__(self) -> Weights:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def prepare(self, stacks: Iterable[tuple[str, ...]]) -> None:
        """Starts packing; each stack is a tuple of parameter names, stacked along N into one linear."""
        for stack in stacks:
            self._packing[stack] = self._executor.submit(self._pack, stack)

    def linear(self, *names: str) -> _core.Weight:
        """The named parameters stacked along N and packed."""
        started = self._packing.pop(names, None)
        packed = started.result() if started else None
        if packed is None:  # its kernels have to be measured: alone, so that packing does not disturb
            wait(self._packing.values())
            packed = self._pack(names, measure=True)
        assert packed is not None
        return packed

    def limit(self, *names: str) -> float:
        """What bounds the codes of the input that the named parameters share; 0: each token's own largest value does."""
        limits = [self._checkpoint.input_limit(name) for name in names]
        return max((limit for limit in limits if limit is not None), default=0.0)

    def table(self, name: str) -> _core.Table:
        """An embedding table, used where it lies in the file."""
        weight = self._checkpoint.weight(name)
        label = self._tensors[name].label
        if weight.levels is not None:  # decoded once, exactly
            values, scale = np.ascontiguousarray(weight.codes()), weight.scale
        elif weight.mask is not None or weight.numbers == "int8g":
            values, scale = np.ascontiguousarray(weight.dense(), np.float32), None
        else:
            values, scale = np.ascontiguousarray(weight.values), weight.scale
        for array in (values, scale):
            if array is not None and array.dtype != np.int8:
                check_finite(label, array)
        self._checkpoint.release(name)  # rows come back as they are looked up
        self.table_bytes += values.nbytes + (0 if scale is None else scale.nbytes)
        if scale is None:
            return _core.Table(label, values)
        return _core.Table(label, values, np.ascontiguousarray(scale))

    def vector(self, name: str) -> np.ndarray:
        """A norm or bias, float32."""
        array = np.ascontiguousarray(self._checkpoint.array(name), dtype=np.float32)
        check_finite(self._tensors[name].label, array)
        return array

    def vectors(self, *names: str) -> np.ndarray:
        """Biases laid end to end, as stacked linears want them."""
        return np.concatenate([self.vector(name) for name in names])

    def _pack(self, names: tuple[str, ...], measure: bool = False) -> _core.Weight | None:
        """Stacked and packed; None if the kernels of such a layer have not been measured yet and must not be now."""
        parts = [self._checkpoint.weight(name) for name in names]  # kept alive until packed
        source, alive = weight_source([(self._tensors[n].label, p) for n, p in zip(names, parts, strict=True)])
        formats: Forms | str | None = self._format
        if formats == "auto":
            formats = self._tuner.known(source)
            if formats is None and measure:
                formats = self._tuner.measure(source)
        elif formats == "dense":
            formats = dense_format(numbers_of(source))
        packed = None if formats is None else _core.pack(source, formats)
        del alive
        for name in names:  # so that a model is never in memory twice
            self._checkpoint.release(name)
        return packed


def weight_source(parts: Sequence[tuple[str, Weight]]) -> tuple[_core.WeightSource, list[np.ndarray]]:
    """Weights of a checkpoint stacked along N, ready to be packed, and the arrays that must live as long."""
    # e.g. only one of Q, K, V was quantized: exact, at the price of float arithmetic
    mixed = len({(part.numbers, part.group if part.numbers == "int8g" else 0) for _, part in parts}) > 1
    if mixed:
        log.info(
            "%s: parts of several types are stacked, so all of them run as float32", ", ".join(n for n, _ in parts)
        )
    source = _core.WeightSource(parts[0][1].shape[1])
    alive: list[np.ndarray] = []

    def keep(array: np.ndarray | None) -> np.ndarray | None:
        if array is None:
            return None
        alive.append(np.ascontiguousarray(array))
        return alive[-1]

    for label, part in parts:
        n = part.shape[0]
        if mixed and part.numbers != "float32":
            source.add_dense(label, keep(np.asarray(part.dense(), np.float32)))
            continue
        values, scale, mask = keep(part.values), keep(part.scale), keep(part.mask)
        if part.levels is not None:
            table = keep(part.multiplier), keep(part.zero), part.group
            source.add_indexed(label, n, values, part.bits, keep(part.levels), scale, mask, *table)
        elif mask is not None:
            source.add_bitmask(label, n, mask, values, scale, part.group)
        elif scale is not None:
            source.add_dense_q8(label, values, scale, part.group)
        else:
            source.add_dense(label, values)
    return source, alive


@dataclass(frozen=True, eq=False)
class Fold:
    """Where the scale of a linear's input channels can be moved to: x / s is made by dividing what makes x.

    Attributes:
        readers: the stack of linears that read x; nothing else does.
        makers: tensors whose entries along their first axis make the channels of x: a norm's vectors, or the weight and bias
            of a linear.
        columns: int64 [K]: the entry that makes channel k; None: entry k.
    """

    readers: tuple[str, ...]
    makers: tuple[str, ...]
    columns: np.ndarray | None = None


def is_folded(config: Mapping[str, Any]) -> bool:
    """Whether a packed model's config says that scales of outlier channels were moved into its weights."""
    quantization = config.get("quantization_config")
    return isinstance(quantization, Mapping) and quantization.get("folded") is True


class Architecture(ABC):
    """A model family: checks its config when made, lists its tensors, and writes itself down as a Program."""

    model_types: ClassVar[tuple[str, ...]]
    #: Tensors that may stand in a checkpoint unread, as regular expressions, with the reason that is logged.
    harmless: ClassVar[Mapping[str, str]] = {}
    #: Whether `generate` makes sense: causal, with logits.
    generates: ClassVar[bool] = False
    #: How the names of a layer's tensors begin; {} is its number.
    layer_prefix: ClassVar[str]

    max_positions: int
    hidden_size: int
    head_dim: int
    layers: int
    ffn: tuple[int, ...]  # channels of every layer
    heads: tuple[int, ...]  # query heads of every layer
    kv_heads: tuple[int, ...]  # of which so many have keys and values; the others share them
    vocab_size: int
    outputs: tuple[str, ...]  # the first is what `Model.forward` returns unless told otherwise
    labels: int = 0  # of a classifier
    #: Also give "residual.0" .. "residual.L" [T, H]: what enters each layer, and what leaves the last one.
    trace: bool = False

    @abstractmethod
    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        """Reads `config`; `names` are the checkpoint's tensors, `pooling` how its tokens become an embedding."""

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """Every tensor that the model needs."""

    @abstractmethod
    def stacks(self) -> list[tuple[str, ...]]:
        """The linears that `build` will ask for, in the order of use."""

    def folds(self) -> list[Fold]:
        """Every place where scales of activations can go into weights."""
        return []

    @abstractmethod
    def build(self, p: _core.Program, w: Weights) -> None:
        """Writes the model into `p`."""

    def groups(self) -> list[Group]:
        """Everything that can be removed from the model without removing a layer."""
        where: dict[str, list[tuple[Tensor, int]]] = {}
        for tensor in self.tensors():
            for axis, name in enumerate(tensor.axes):
                where.setdefault(name, []).append((tensor, axis))

        def parts(count: int, *axes: str) -> tuple[Part, ...]:
            found = [pair for name in axes for pair in where[name]]
            return tuple(
                Part(t.name, axis, t.shape[axis] // count, axis == 1 and t.role in (Role.LINEAR, Role.HEAD))
                for t, axis in found
            )

        h = self.hidden_size
        found = [Group("hidden", "hidden", h, parts(h, "hidden"), {"hidden_size": 1})]
        for i in range(self.layers):
            n, heads, kv, f = f"layers.{i}.", self.heads[i], self.kv_heads[i], self.ffn[i]
            queries, keys = n + "attention.queries", n + "attention.keys"
            if heads:
                widths = {"num_attention_heads": heads // kv, "num_key_value_heads": 1}
                least = self.least_width("attention")
                found.append(Group("heads", n + "attention", kv, parts(kv, queries, keys), widths, i, minimum=least))
            if heads > kv:
                widths = {"num_attention_heads": 1}
                found.append(
                    Group("queries", n + "attention", heads, parts(heads, queries), widths, i, sections=kv, minimum=kv)
                )
            if f:
                widths = {"intermediate_size": 1}
                found.append(
                    Group("ffn", n + "ffn", f, parts(f, n + "ffn"), widths, i, minimum=self.least_width("ffn"))
                )
        return found

    def least_width(self, block: str) -> int:
        """0 if a layer can do without its "attention" or "ffn", else 1."""
        return 0

    def _trace(self, p: _core.Program, layer: int, h: int) -> None:
        if self.trace:
            p.output(f"residual.{layer}", h)

    def check(self, checkpoint: Checkpoint) -> None:
        """Raises unless the checkpoint has every tensor in its shape and none that matters besides."""
        expected = {t.name: t for t in self.tensors()}
        checkpoint.require(expected)
        wrong = [
            f"{t.label}: expected {list(t.shape)}, got {list(checkpoint.shape(t.name))}"
            for t in expected.values()
            if tuple(checkpoint.shape(t.name)) != t.shape
        ]
        if wrong:
            raise ShapeError("\n".join(wrong))
        unknown: list[str] = []
        ignored: dict[str, list[str]] = {}
        for name in checkpoint.names():
            if name in expected:
                continue
            reason = next((why for pattern, why in self.harmless.items() if re.fullmatch(pattern, name)), None)
            if reason is None:
                unknown.append(name)
            else:
                ignored.setdefault(reason, []).append(name)
        if unknown:
            raise UnsupportedModelError(
                f"{checkpoint.path}: {len(unknown)} tensors would be ignored, {type(self).__name__} has none such: "
                + ", ".join(unknown)
            )
        for reason, names in ignored.items():
            log.info("not used (%s): %s", reason, ", ".join(names))


def add_pooling(p: _core.Program, hidden: int, pooling: Pooling) -> None:
    """[T, H] -> "pooled" [S, H] and "embedding" [S, H], which is normalised where the model says so."""
    pooled = p.pool(hidden, pooling.mode)  # [S, H]
    p.output("pooled", pooled)
    p.output("embedding", p.l2_normalize(pooled) if pooling.normalize else pooled)  # [S, H]
