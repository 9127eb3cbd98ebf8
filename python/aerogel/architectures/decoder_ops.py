"""What decoders compute, as `Details` say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from aerogel._core import Rotary
from aerogel.architectures.architecture import Architecture
from aerogel.architectures.details import Details, Modules
from aerogel.architectures.pooling import add_pooling

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value


class DecoderOps(Architecture):
    """The list of ops. `Decoder` reads what it goes by."""

    modules: ClassVar[Modules] = Modules()
    details: Details
    rotaries: tuple[Rotary | None, ...]
    eps: float
    has_logits: bool
    tied: bool
    #: Of the input of the head.
    head_terms: int
    _folded: bool

    def _terms(self, folds: bool) -> int:
        """Of a linear's input, which compression can or cannot have rid of its outliers."""
        return 1 if self._folded and folds else self.head_terms

    def build(self, p: Program, w: Parameters) -> None:
        d = self.details
        h = p.embed(w.table(self.modules.words + ".weight"))  # [T, H]
        if d.embedding_scale != 1:
            h = p.scale(h, d.embedding_scale)
        for i in range(self.layers):
            self._trace(p, i, h)
            h = self._in_parallel(p, w, i, h) if d.parallel else self._in_turn(p, w, i, h)  # [T, H]
        self._trace(p, self.layers, h)
        h = self._normalized(p, w, "norm", h, self.modules.norm)  # [T, H]
        p.output("hidden", h)
        if self.pooling is not None:
            add_pooling(p, w, h, self.pooling)
        if self.has_logits:
            p.output("logits", self._logits(p, w, h))
        if self.head is not None:
            self.head.add(p, w, h)
        p.set_max_positions(self.max_positions)

    def _in_turn(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        """[T, H] -> [T, H]: layer i, whose feed-forward block sees what attention has added."""
        h = self._mixed(p, w, i, h)  # [T, H]
        if not self.ffn[i]:
            return h
        norm = self.details.ffn_norms[0]
        x = self._normalized(p, w, f"layers.{i}.ffn.norm", h, f"layers.{i}.{norm}") if norm else h  # [T, H]
        return self._add(p, h, self._feed(p, w, i, x))

    def _mixed(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        """[T, H] -> [T, H]: the hidden states and what tokens learn from each other in layer i."""
        if not self.heads[i]:
            return h
        norm = self.details.attention_norms[0]
        x = self._normalized(p, w, f"layers.{i}.attention.norm", h, f"layers.{i}.{norm}") if norm else h  # [T, H]
        return self._add(p, h, self._attend(p, w, i, x))

    def _in_parallel(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        """[T, H] -> [T, H]: layer i, whose blocks read the same hidden states, or one norm of them."""
        t, norm = f"layers.{i}.", self.details.ffn_norms[0]
        x = self._normalized(p, w, t + "attention.norm", h, f"{t}{self.details.attention_norms[0]}")  # [T, H]
        sum = self._add(p, h, self._attend(p, w, i, x)) if self.heads[i] else h  # [T, H]
        if not self.ffn[i]:
            return sum
        x = self._normalized(p, w, t + "ffn.norm", h, t + norm) if norm else x  # [T, H]
        return self._add(p, sum, self._feed(p, w, i, x))

    def _attend(self, p: Program, w: Parameters, i: int, x: Value) -> Value:
        """[T, H] -> [T, H]: what attention adds."""
        d, m, A, G, width = self.details, self.modules, self.heads[i], self.kv_heads[i], self.head_dim
        t, n = f"layers.{i}.", f"layers.{i}.attention"
        before, after = d.attention_norms
        terms = self._terms(before is not None and not d.shares_norm)
        qkv = self._linear(p, w, n + ".qkv", x, d.qkv_bias, *[t + name for name in m.queries_keys_values], terms=terms)
        if d.qk_norm:
            query, key = (self._gamma(w, t + name) for name in (m.query_norm, m.key_norm))
            qkv = p.qk_norm(n + ".qk_norm", qkv, A, G, width, query, key, self.eps)  # [T, (A+2G)d]
        rotary = self.rotaries[i]
        if rotary is not None:
            qkv = p.rope(qkv, A + G, width, rotary)  # [T, (A+2G)d], queries and keys rotated
        a = p.attention(n, qkv, A, G, width, d.causal, d.attention_scale, d.windows[i], d.attention_cap)  # [T, A d]
        y = self._linear(p, w, n + ".out", a, d.out_bias, t + m.out)  # [T, H]
        return self._normalized(p, w, n + ".after", y, t + after) if after else y

    def _feed(self, p: Program, w: Parameters, i: int, x: Value) -> Value:
        """[T, H] -> [T, H]: what the feed-forward block adds."""
        d, m, t, n = self.details, self.modules, f"layers.{i}.", f"layers.{i}.ffn"
        before, after = d.ffn_norms
        terms = self._terms(before is not None and not d.shares_norm)
        if d.gated:
            f = self._linear(p, w, n + ".gate_up", x, d.ffn_bias, t + m.gate, t + m.up, terms=terms)  # [T, 2F]
            f = p.gate(f, d.gate)  # [T, F]
        else:
            f = p.activation(self._linear(p, w, n + ".up", x, d.ffn_bias, t + m.up, terms=terms), d.gate)  # [T, F]
        y = self._linear(p, w, n + ".down", f, d.ffn_bias, t + m.down, terms=self._terms(d.gated))  # [T, H]
        return self._normalized(p, w, n + ".after", y, t + after) if after else y

    def _logits(self, p: Program, w: Parameters, h: Value) -> Value:
        """[T, H] -> [T, V], or [S, V] when only the last tokens are wanted."""
        d, last = self.details, p.select_last(h)
        if d.logit_scale != 1:
            last = p.scale(last, d.logit_scale)
        head = (self.modules.words if self.tied else self.modules.head) + ".weight"
        limit = w.limit(head)
        biases = w.vector(self.modules.head + ".bias") if d.head_bias else None
        y = p.linear("head", last, w.linear(head), biases, terms=1 if limit else self.head_terms, limit=limit)
        if d.logit_cap:
            y = p.scale(p.activation(p.scale(y, 1 / d.logit_cap), "tanh"), d.logit_cap)
        return y

    def _add(self, p: Program, h: Value, block: Value) -> Value:
        r = self.details.residual_scale
        return p.add(h, block if r == 1 else p.scale(block, r))

    def _gamma(self, w: Parameters, tensor: str) -> Value:
        gamma = w.vector(tensor + ".weight")
        return gamma + self.details.norm_offset if self.details.norm_offset else gamma

    def _normalized(self, p: Program, w: Parameters, name: str, x: Value, tensor: str) -> Value:
        if self.details.layer_norm:
            return p.layer_norm(name, x, self._gamma(w, tensor), w.vector(tensor + ".bias"), self.eps)
        return p.rms_norm(name, x, self._gamma(w, tensor), self.eps)

    def _linear(
        self, p: Program, w: Parameters, name: str, x: Value, bias: bool, *tensors: str, terms: int = 1
    ) -> Value:
        biases = w.vectors(*[t + ".bias" for t in tensors]) if bias else None
        weights = [t + ".weight" for t in tensors]
        limit = w.limit(*weights)  # a fixed scale has one term
        return p.linear(name, x, w.linear(*weights), biases, terms=1 if limit else terms, limit=limit)
