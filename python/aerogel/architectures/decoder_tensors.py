"""The tensors of a decoder's blocks, as Transformers names them, and where scales of their inputs can go."""

from __future__ import annotations

import numpy as np

from aerogel.architectures.details import Details, Modules
from aerogel.architectures.heads import Axis
from aerogel.architectures.tensors import Fold, Role, Tensor


def attention_tensors(
    d: Details, m: Modules, layer: int, heads: int, kv_heads: int, head_dim: int, hidden: Axis
) -> list[Tensor]:
    """Of an attention block with its norms."""
    t, n = f"layers.{layer}.", f"layers.{layer}.attention."
    q, k = (heads * head_dim, n + "queries"), (kv_heads * head_dim, n + "keys")
    before, after = d.attention_norms
    found = norm_tensors(t + before, n + "norm", hidden, d.layer_norm) if before else []
    for name, label, rows in zip(m.queries_keys_values, ("query", "key", "value"), (q, k, k), strict=True):
        found += linear_tensors(t + name, n + label, rows, hidden, d.qkv_bias)
    for name, label, rows in ((m.query_norm, "query", q), (m.key_norm, "key", k)) if d.qk_norm else ():
        width = (head_dim, "") if d.qk_norm == "head" else rows
        found += norm_tensors(t + name, n + label + ".norm", width)
    found += linear_tensors(t + m.out, n + "out", hidden, q, d.out_bias)
    return found + (norm_tensors(t + after, n + "after", hidden, d.layer_norm) if after else [])


def ffn_tensors(d: Details, m: Modules, layer: int, channels: int, hidden: Axis) -> list[Tensor]:
    """Of a feed-forward block with its norms."""
    t, n = f"layers.{layer}.", f"layers.{layer}.ffn"
    f = (channels, n)
    before, after = d.ffn_norms
    found = norm_tensors(t + before, n + ".norm", hidden, d.layer_norm) if before else []
    found += linear_tensors(t + m.gate, n + ".gate", f, hidden, d.ffn_bias) if d.gated else []
    found += linear_tensors(t + m.up, n + ".up", f, hidden, d.ffn_bias)
    found += linear_tensors(t + m.down, n + ".down", hidden, f, d.ffn_bias)
    return found + (norm_tensors(t + after, n + ".after", hidden, d.layer_norm) if after else [])


def attention_folds(d: Details, m: Modules, layer: int, heads: int, kv_heads: int, head_dim: int) -> list[Fold]:
    """Of an attention block: the norm before it, and the values."""
    t = f"layers.{layer}."
    head, channel = np.divmod(np.arange(heads * head_dim), head_dim)
    readers = tuple(f"{t}{name}.weight" for name in m.queries_keys_values)
    columns = head // (heads // kv_heads) * head_dim + channel
    values = Fold((f"{t}{m.out}.weight",), made_by(t + m.queries_keys_values[2], d.qkv_bias), columns)
    return [*norm_fold(d, t, d.attention_norms[0], readers), values]


def ffn_folds(d: Details, m: Modules, layer: int) -> list[Fold]:
    """Of a feed-forward block: the norm before it, and what the gate lets through."""
    t = f"layers.{layer}."
    found = norm_fold(d, t, d.ffn_norms[0], ffn_readers(d, m, layer))
    # An activation is no factor: without a gate nothing makes its channels larger or smaller.
    return [*found, Fold((f"{t}{m.down}.weight",), made_by(t + m.up, d.ffn_bias))] if d.gated else found


def ffn_readers(d: Details, m: Modules, layer: int) -> tuple[str, ...]:
    """The linears that read what goes into a feed-forward block."""
    return tuple(f"layers.{layer}.{name}.weight" for name in ((m.gate, m.up) if d.gated else (m.up,)))


def norm_fold(d: Details, prefix: str, norm: str | None, readers: tuple[str, ...]) -> list[Fold]:
    """Where the linears of a layer, and nothing else, read a norm, if they do."""
    return (
        [Fold(readers, made_by(prefix + norm, d.layer_norm), offset=d.norm_offset)]
        if norm and not d.shares_norm
        else []
    )


def made_by(tensor: str, bias: bool) -> tuple[str, ...]:
    """What makes the channels that a linear or a norm puts out."""
    return (tensor + ".weight", *([tensor + ".bias"] if bias else []))


def norm_tensors(tensor: str, label: str, width: Axis, bias: bool = False) -> list[Tensor]:
    """Of an RMS norm, or with `bias` of a layer norm."""
    found = [Tensor.over(tensor + ".weight", label, Role.KEPT, width)]
    return found + ([Tensor.over(tensor + ".bias", label + ".bias", Role.KEPT, width)] if bias else [])


def linear_tensors(tensor: str, label: str, n: Axis, k: Axis, bias: bool) -> list[Tensor]:
    """Of a linear."""
    found = [Tensor.over(tensor + ".weight", label, Role.LINEAR, n, k)]
    return found + ([Tensor.over(tensor + ".bias", label + ".bias", Role.KEPT, n)] if bias else [])
