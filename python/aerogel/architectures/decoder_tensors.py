"""The tensors of a decoder's blocks, as Transformers names them."""

from __future__ import annotations

from aerogel.architectures.details import Details
from aerogel.architectures.heads import Axis
from aerogel.architectures.tensors import Role, Tensor


def attention_tensors(d: Details, layer: int, heads: int, kv_heads: int, head_dim: int, hidden: Axis) -> list[Tensor]:
    """Of an attention block with its norms."""
    t, n = f"layers.{layer}.", f"layers.{layer}.attention."
    q, k = (heads * head_dim, n + "queries"), (kv_heads * head_dim, n + "keys")
    before, after = d.attention_norms
    found = norm_tensors(t + before, n + "norm", hidden) if before else []
    for name, label, rows in (("q", "query", q), ("k", "key", k), ("v", "value", k)):
        found += _linear(t + f"self_attn.{name}_proj", n + label, rows, hidden, d.qkv_bias)
    for name, label, rows in (("q", "query", q), ("k", "key", k)) if d.qk_norm else ():
        width = (head_dim, "") if d.qk_norm == "head" else rows
        found += norm_tensors(t + f"self_attn.{name}_norm", n + label + ".norm", width)
    found += _linear(t + "self_attn.o_proj", n + "out", hidden, q, d.out_bias)
    return found + (norm_tensors(t + after, n + "after", hidden) if after else [])


def ffn_tensors(d: Details, layer: int, channels: int, hidden: Axis) -> list[Tensor]:
    """Of a feed-forward block with its norms."""
    t, n = f"layers.{layer}.", f"layers.{layer}.ffn"
    f = (channels, n)
    before, after = d.ffn_norms
    found = norm_tensors(t + before, n + ".norm", hidden) if before else []
    found += _linear(t + "mlp.gate_proj", n + ".gate", f, hidden, d.ffn_bias)
    found += _linear(t + "mlp.up_proj", n + ".up", f, hidden, d.ffn_bias)
    found += _linear(t + "mlp.down_proj", n + ".down", hidden, f, d.ffn_bias)
    return found + (norm_tensors(t + after, n + ".after", hidden) if after else [])


def norm_tensors(tensor: str, label: str, width: Axis) -> list[Tensor]:
    """Of an RMS norm."""
    return [Tensor.over(tensor + ".weight", label, Role.KEPT, width)]


def _linear(tensor: str, label: str, n: Axis, k: Axis, bias: bool) -> list[Tensor]:
    found = [Tensor.over(tensor + ".weight", label, Role.LINEAR, n, k)]
    return found + ([Tensor.over(tensor + ".bias", label + ".bias", Role.KEPT, n)] if bias else [])
