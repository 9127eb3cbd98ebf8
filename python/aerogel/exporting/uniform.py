"""A model whose layers differ in width, as one whose layers are all alike: what a layer lacks is filled up with zeros.

Transformers knows one width for all layers. An FFN channel whose incoming and outgoing weights are zero adds exactly nothing
(an activation of 0, times 0), nor does an attention head whose outgoing weights are, so the filled model computes what the
smaller one does. Hidden channels are the same in all layers already; none is added, because a norm would see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aerogel.architectures import PER_LAYER, Architecture, Tensor
from aerogel.checkpoint.checkpoint import Checkpoint
from aerogel.checkpoint.derived import Derived
from aerogel.checkpoint.weight import Weight, check_matrix
from aerogel.errors import MissingTensorsError, UnsupportedModelError


class Widths(NamedTuple):
    """Of one layer: FFN channels, heads of keys and values, and the query heads that share each of those."""

    ffn: int
    heads: int
    shared: int


def uniform(checkpoint: Checkpoint, architecture: Architecture) -> Checkpoint:
    """The checkpoint itself where its layers are alike and Transformers takes their heads, else one filled up with zeros to
    the widest layer, and to a number of heads that is taken.

    Raises:
        UnsupportedModelError: Transformers has no config with these heads, where they must fill the hidden width, or where
            none can be added.
    """
    if not architecture.layers:
        return checkpoint
    layers = [
        Widths(f, g, a // g if g else 0)
        for f, a, g in zip(architecture.ffn, architecture.heads, architecture.kv_heads, strict=True)
    ]
    widest = Widths(*(max(1, *column) for column in zip(*layers, strict=True)))
    alike = all(layer == widest for layer in layers)
    hidden, d = architecture.hidden_size, architecture.head_dim
    narrowed = architecture.heads_fill_hidden and "head_dim" in checkpoint.config  # a key that Transformers lacks there
    if not architecture.fillable_heads:
        possible = widest
        if any(layer[1:] != widest[1:] for layer in layers):
            raise UnsupportedModelError(
                f"{checkpoint.path}: expected as many heads in every layer, as a norm goes over all of them, got other "
                f"numbers, up to {widest.heads * widest.shared}: Transformers has one number for all layers"
            )
    elif not architecture.heads_fill_hidden:
        possible = _dividing(widest, hidden)
    elif alike and not narrowed:
        possible = widest
    elif hidden % d or hidden // d < widest.heads:
        raise UnsupportedModelError(
            f"{checkpoint.path}: {widest.heads} heads of {d} in a hidden width of {hidden}: in transformers the "
            f"heads of {checkpoint.config['model_type']} fill it exactly, so this model cannot be written for it"
        )
    else:
        possible = widest._replace(heads=hidden // d)
    if alike and possible == widest and not narrowed:
        return checkpoint
    return _Filled(checkpoint, architecture, layers, possible)


def _dividing(widest: Widths, hidden: int) -> Widths:
    """The fewest heads from these on that divide the hidden width, as some versions of Transformers want; or these."""
    found = [
        (heads * shared, heads, shared)
        for heads in range(widest.heads, hidden + 1)
        for shared in range(widest.shared, hidden // heads + 1)
        if hidden % (heads * shared) == 0
    ]
    return widest._replace(heads=min(found)[1], shared=min(found)[2]) if found else widest


class _Filled(Derived):
    """Tensors are filled up when they are read; what no layer's width touches is the source's own."""

    def __init__(self, source: Checkpoint, architecture: Architecture, layers: list[Widths], widest: Widths) -> None:
        self._layers, self._widest, self._d = layers, widest, architecture.head_dim
        config = _config(source.config, architecture, widest)
        alike = type(architecture)(config, source.names(), source.pooling)
        self._tensors: dict[str, Tensor] = {tensor.name: tensor for tensor in alike.tensors()}
        super().__init__(source, config, {*source.names(), *self._tensors})

    def shape(self, name: str) -> tuple[int, ...]:
        tensor = self._tensors.get(name)
        return self._source.shape(name) if tensor is None else tensor.shape

    def array(self, name: str) -> NDArray[np.float32]:
        tensor = self._tensors.get(name)
        if tensor is None:
            return self._source.array(name)
        if name not in self._source:  # of a block that was removed: it adds nothing, behind whatever norm
            return np.full(tensor.shape, float(tensor.label.endswith("norm")), np.float32)
        array = self._source.array(name)
        for axis, kind in enumerate(tensor.axes):
            array = self._fill(array, axis, kind)
        return array

    def weight(self, name: str) -> Weight:
        if name not in self:
            raise MissingTensorsError(self.path, [name])
        return Weight(check_matrix(name, self.shape(name)), self.array(name))

    def _fill(self, array: NDArray[np.float32], axis: int, kind: str) -> NDArray[np.float32]:
        """One axis from a layer's width to the widest; `kind` is its name, such as "layers.3.attention.queries"."""
        word, _, rest = kind.partition(".")
        if word != "layers":
            return array
        number, _, part = rest.partition(".")
        layer, widest, d = self._layers[int(number)], self._widest, self._d
        have, want = {
            "ffn": ((layer.ffn,), (widest.ffn,)),
            "attention.keys": ((layer.heads, d), (widest.heads, d)),
            "attention.queries": ((layer.heads, layer.shared, d), (widest.heads, widest.shared, d)),
        }[part]
        before, after = array.shape[:axis], array.shape[axis + 1 :]
        result = np.zeros((*before, *want, *after), np.float32)
        inside = (*[slice(None)] * len(before), *map(slice, have))
        result[inside] = array.reshape(*before, *have, *after)
        return result.reshape(*before, -1, *after)


def _config(config: Mapping[str, Any], architecture: Architecture, widest: Widths) -> dict[str, Any]:
    found = {key: value for key, value in config.items() if key not in PER_LAYER.values()}
    names = architecture.config_names
    found[names.get("intermediate_size", "intermediate_size")] = widest.ffn
    found[names.get("num_attention_heads", "num_attention_heads")] = widest.heads * widest.shared
    if architecture.heads_fill_hidden:
        found.pop("head_dim", None)  # what the heads leave of the hidden width
    else:
        found.update(num_key_value_heads=widest.heads, head_dim=architecture.head_dim)
    return found
