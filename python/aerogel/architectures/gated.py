"""Encoders of BERT's kind whose feed-forward blocks have a gate, and whose positions are rotations or slopes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar

from aerogel._core import Rotary
from aerogel.architectures.config import Config
from aerogel.architectures.encoder import Encoder, norm_tensors
from aerogel.architectures.heads import KINDS, Axis
from aerogel.architectures.pooling import pooling_stacks, pooling_tensors
from aerogel.architectures.tensors import Fold, Role, Tensor
from aerogel.errors import UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

#: A config's word for the activation of the gate -> the engine's.
GATES = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


class GatedEncoder(Encoder):
    """An `Encoder` with down(act(gate(x)) * up(x)) between its norms, and without position embeddings.

    Attributes:
        gate: what stands before .weight in the name of a layer's gate, behind the layer's prefix.
        qkv_bias: whether queries, keys and values have biases; and so on.
        rotary: how queries and keys of layer i turn; None: they do not.
    """

    gate: ClassVar[str]
    activations: ClassVar = GATES
    qkv_bias = True
    out_bias = True
    up_bias = False
    down_bias = True
    norm_bias = True
    rotary: Rotary | None = None

    def tensors(self) -> list[Tensor]:
        m = self.module_names
        tables = [(m.words, self.vocab_size, "tokens")]
        if m.types is not None and self.types:
            tables.append((m.types, self.types, "types"))
        found = [
            Tensor.over(name + ".weight", f"embeddings.{label}", Role.EMBEDDING, (rows, ""), self.width)
            for name, rows, label in tables
        ]
        found += self.norm(m.norm, "embeddings.norm")
        for i in range(self.layers):
            found += self.layer_tensors(i)
        found += self.last_tensors()
        found += pooling_tensors(self.pooling, self.hidden_size)
        for head in (*self.token_heads, *([self.head] if self.head is not None else [])):
            found += head.tensors()
        return found

    def layer_tensors(self, i: int) -> list[Tensor]:
        t, n, m, h = self.prefix(i), f"layers.{i}.", self.module_names, (self.hidden_size, "hidden")
        q = (self.heads[i] * self.head_dim, n + "attention.queries")
        k = (self.heads[i] * self.head_dim, n + "attention.keys")
        f = (self.ffn[i], n + "ffn")
        found: list[Tensor] = []
        if self.heads[i]:
            for module, axis, label in ((m.query, q, "query"), (m.key, k, "key"), (m.value, k, "value")):
                found += _linear(t + module, axis, h, f"{n}attention.{label}", self.qkv_bias)
        found += _linear(t + m.out, h, q, n + "attention.out", self.out_bias)
        found += self.norm(t + m.attention_norm, n + "attention.norm")
        if self.ffn[i]:
            found += _linear(t + self.gate, f, h, n + "ffn.gate", self.up_bias)
            found += _linear(t + m.up, f, h, n + "ffn.up", self.up_bias)
        found += _linear(t + m.down, h, f, n + "ffn.down", self.down_bias)
        return found + self.norm(t + m.ffn_norm, n + "ffn.norm")

    def last_tensors(self) -> list[Tensor]:
        """What stands behind the layers."""
        return []

    def norm(self, tensor: str, label: str) -> list[Tensor]:
        """The tensors of a norm of the hidden states."""
        return norm_tensors(tensor, (self.hidden_size, "hidden"), label)[: 2 if self.norm_bias else 1]

    def stacks(self) -> list[tuple[str, ...]]:
        m = self.module_names
        found: list[tuple[str, ...]] = []
        for i in range(self.layers):
            t = self.prefix(i)
            if self.heads[i]:
                found += [tuple(f"{t}{x}.weight" for x in (m.query, m.key, m.value)), (f"{t}{m.out}.weight",)]
            if self.ffn[i]:
                found += [(f"{t}{self.gate}.weight", f"{t}{m.up}.weight"), (f"{t}{m.down}.weight",)]
        return found + pooling_stacks(self.pooling)

    def folds(self) -> list[Fold]:
        m = self.module_names
        found: list[Fold] = []
        for i in range(self.layers):
            t = self.prefix(i)
            if self.heads[i]:
                found.append(Fold((f"{t}{m.out}.weight",), self._both(t + m.value, self.qkv_bias)))
            if self.ffn[i]:
                found.append(Fold((f"{t}{m.down}.weight",), self._both(t + m.up, self.up_bias)))
        return found

    @staticmethod
    def _both(tensor: str, bias: bool) -> tuple[str, ...]:
        return (tensor + ".weight", tensor + ".bias") if bias else (tensor + ".weight",)

    def _embed(self, p: Program, w: Parameters) -> Value:
        m = self.module_names
        words = w.table(m.words + ".weight")
        h = p.embed(words, types=w.table(m.types + ".weight")) if m.types is not None and self.types else p.embed(words)
        return self._normed(p, w, "embeddings.norm", h, m.norm, self._lost_heads(0))  # [T, H]

    def _layer(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        m, t, n = self.module_names, self.prefix(i), f"layers.{i}."
        h = self.attended(p, w, i, h)  # [T, H]
        if self.ffn[i]:
            h = p.add(h, self._feed(p, w, i, h))  # [T, H]
        following = self._lost_heads(i + 1) if i + 1 < self.layers else []
        return self._normed(p, w, n + "ffn.norm", h, t + m.ffn_norm, following)  # [T, H]

    def attended(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        """[T, H] -> [T, H]: the attention of layer i, what it is added to, and their norm."""
        m, t = self.module_names, self.prefix(i)
        if self.heads[i]:
            h = p.add(h, self._attend(p, w, i, h))  # [T, H]
        lost_ffn = [f"{t}{m.down}.bias"] if self.down_bias and not self.ffn[i] else []
        return self._normed(p, w, f"layers.{i}.attention.norm", h, t + m.attention_norm, lost_ffn)

    def projected(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        m, t = self.module_names, self.prefix(i)
        names = (t + m.query, t + m.key, t + m.value)
        return self._product(p, w, f"layers.{i}.attention.qkv", h, self.qkv_bias, *names)

    def _attend(self, p: Program, w: Parameters, i: int, x: Value) -> Value:
        """[T, H] -> [T, H]: the attention of layer i."""
        m, t, n, a, d = self.module_names, self.prefix(i), f"layers.{i}.", self.heads[i], self.head_dim
        qkv = self.projected(p, w, i, x)  # [T, 3 A d]
        rotary = self.layer_rotary(i)
        if rotary is not None:
            qkv = p.rope(qkv, 2 * a, d, rotary)  # [T, 3 A d], queries and keys turned
        return self._product(p, w, n + "attention.out", self.attention(p, w, i, qkv), self.out_bias, t + m.out)

    def _feed(self, p: Program, w: Parameters, i: int, x: Value) -> Value:
        """[T, H] -> [T, H]: the feed-forward block of layer i."""
        m, t, n = self.module_names, self.prefix(i), f"layers.{i}."
        f = self._product(p, w, n + "ffn.gate_up", x, self.up_bias, t + self.gate, t + m.up)  # [T, 2F]
        f = p.gate(f, self.activation)  # [T, F]
        return self._product(p, w, n + "ffn.down", f, self.down_bias, t + m.down)

    def layer_rotary(self, i: int) -> Rotary | None:
        """How queries and keys of layer i turn."""
        return self.rotary

    def _lost_heads(self, i: int) -> list[str]:
        """What is left of an attention without heads, which is added before the norm above it."""
        return [f"{self.prefix(i)}{self.module_names.out}.bias"] if self.out_bias and not self.heads[i] else []

    def _normed(self, p: Program, w: Parameters, name: str, x: Value, tensor: str, more: Sequence[str] = ()) -> Value:
        beta = w.vector(tensor + ".bias") if self.norm_bias else None
        for lost in more:
            beta = w.vector(lost) if beta is None else beta + w.vector(lost)
        return p.layer_norm(name, x, w.vector(tensor + ".weight"), beta, self.eps)

    @staticmethod
    def _product(p: Program, w: Parameters, name: str, x: Value, bias: bool, *tensors: str) -> Value:
        weights = [t + ".weight" for t in tensors]
        biases = w.vectors(*[t + ".bias" for t in tensors]) if bias else None
        return p.linear(name, x, w.linear(*weights), biases, limit=w.limit(*weights))


def check_code(c: Config, prefixes: Collection[str]) -> None:
    """Accepts an auto_map whose classes are the family's own: what they compute is known, and they are not run.

    Args:
        c: the config.
        prefixes: what the names of the classes begin with.

    Raises:
        UnsupportedModelError: other classes, which may compute anything.
    """
    ends = {*KINDS, "Config", "PreTrainedModel", "ForPreTraining", "ForMultipleChoice"}
    known = {prefix + end for prefix in prefixes for end in ends}
    auto_map = c.values.get("auto_map") or {}
    values = auto_map.values() if isinstance(auto_map, dict) else [auto_map]
    for value in values:
        name = value.rpartition(".")[2] if isinstance(value, str) else repr(value)
        if name not in known:
            raise UnsupportedModelError(
                f"config: auto_map: {name!s:.80}: the model comes with Python code of its own, which is not run: only "
                f"what {' and '.join(sorted(prefixes))} models compute is known here"
            )


def _linear(tensor: str, n: Axis, k: Axis, label: str, bias: bool) -> list[Tensor]:
    """Weight and bias; the weight is missing where the linear has lost all its inputs."""
    weight = [Tensor.over(tensor + ".weight", label, Role.LINEAR, n, k)] if k[0] else []
    return weight + ([Tensor.over(tensor + ".bias", label + ".bias", Role.KEPT, n)] if bias else [])
