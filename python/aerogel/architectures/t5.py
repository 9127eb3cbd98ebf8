"""The encoder of T5 and mT5 (arXiv 1910.10683, 2010.11934): RMS norms before the blocks, attention, not scaled, with
a bias by the distance of two tokens. What embeddings are made of (sentence-t5, GTR); the decoder is not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from aerogel.architectures.architecture import Architecture
from aerogel.architectures.buckets import distance_buckets
from aerogel.architectures.config import Config, is_folded
from aerogel.architectures.encoder import ACTIVATIONS
from aerogel.architectures.files import SavedNames
from aerogel.architectures.pooling import Pooling, add_pooling, pooling_stacks, pooling_tensors
from aerogel.architectures.settings import CONFIG, Settings
from aerogel.architectures.tensors import Fold, Role, Tensor
from aerogel.errors import ConfigError, UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
#: Positions have no tensors: a sequence may be as long as memory allows.
_LONGEST = 1 << 20
_CLASSES = tuple(
    f"{name}{end}" for name in ("T5", "MT5") for end in ("EncoderModel", "Model", "ForConditionalGeneration")
)


def _saved(base_class: str) -> SavedNames:
    return SavedNames(base_class=base_class, prefix="", parts=(), tied={"encoder.embed_tokens.weight": "shared.weight"})


class T5(Architecture):
    """Outputs "hidden" [T, H]; "embedding" and "pooled" [S, H] with a pooling."""

    model_types: ClassVar = ("t5", "mt5")
    layer_prefix: ClassVar = "encoder.block.{}."
    saved: ClassVar = {"t5": _saved("T5EncoderModel"), "mt5": _saved("MT5EncoderModel")}
    harmless = {
        r"decoder\..*": "the encoder is used for its embeddings",
        r"lm_head\.weight": "the encoder is used for its embeddings",
        r"encoder\.embed_tokens\.weight": "the same as shared.weight",
    }
    numbered_heads: ClassVar = True
    config_names = {
        "hidden_size": "d_model",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "d_ff",
        "head_dim": "d_kv",
    }
    settings: ClassVar = CONFIG | Settings(
        "config.json",
        used={
            "d_model": "width",
            "num_layers": "layers",
            "num_heads": "heads",
            "d_ff": "width of the feed-forward blocks",
            "d_kv": "width of a head",
            "layer_norm_epsilon": "RMS norm",
            "feed_forward_proj": "the activation, and whether it is a gate",
            "relative_attention_num_buckets": "rows of the bias by distance",
            "relative_attention_max_distance": "the distance from which on all are alike",
        },
        harmless={
            "is_encoder_decoder": "the encoder alone is run",
            "num_decoder_layers": "the decoder's",
            "scale_decoder_outputs": "the decoder's",
            "dense_act_fn": "feed_forward_proj says it",
            "is_gated_act": "feed_forward_proj says it",
            "initializer_factor": "training only",
            "n_positions": "positions have no tensors",
            "max_position_embeddings": "positions have no tensors",
            "hidden_size": "d_model says it",
            "num_hidden_layers": "num_layers says it",
            "num_attention_heads": "num_heads says it",
            "intermediate_size": "d_ff says it",
            "head_dim": "d_kv says it",
            "is_decoder": "the encoder alone is run",
            "id2label": "there are no labels",
        },
    )

    @classmethod
    def default_pooling(cls, config: Mapping[str, Any]) -> Pooling | None:
        return Pooling(("mean",), normalize=False)

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        c = Config(config, self.config_names)
        self.layers = c.integer("num_hidden_layers")
        self.hidden_size = c.integer("hidden_size")
        self.heads = self.kv_heads = c.per_layer("num_attention_heads", self.layers)
        self.head_dim = c.integer("head_dim")
        self.ffn = c.per_layer("intermediate_size", self.layers)
        self.vocab_size = c.integer("vocab_size")
        self.eps = c.number("layer_norm_epsilon", 1e-6)
        self.buckets = c.integer("relative_attention_num_buckets", 32, minimum=4)
        self.far = c.integer("relative_attention_max_distance", 128)
        if self.buckets % 4 or self.far <= self.buckets // 4:
            raise ConfigError(
                f"config: relative_attention_num_buckets: expected a multiple of 4, and of fewer than a quarter of the "
                f"{self.far} distances, got {self.buckets}"
            )
        if len(set(self.heads)) > 1:
            raise ConfigError("config: attention_heads: expected one number, as each head has a bias of its own")
        declared = c.architecture(_CLASSES[0])
        if declared not in _CLASSES:
            raise UnsupportedModelError(
                f"config: architectures: {declared!r} is not supported, only the encoders of {', '.join(_CLASSES)}"
            )
        kind = str(config.get("feed_forward_proj") or "relu")
        self.gated = kind.startswith("gated-")
        # The gate that is called gelu was trained with its approximation by tanh.
        word = "gelu_new" if kind == "gated-gelu" else kind.removeprefix("gated-")
        if word not in ACTIVATIONS or (self.gated and ACTIVATIONS[word] == "tanh"):
            raise UnsupportedModelError(f"config: feed_forward_proj: {kind!r:.80} is not supported")
        self.activation = ACTIVATIONS[word]
        self.max_positions = _LONGEST
        self.pooling = pooling
        self.outputs = ("hidden", "embedding", "pooled") if pooling is not None else ("hidden",)
        self.terms = 1 if is_folded(config) else 2  # outliers behind RMS norms, as in decoders

    def tensors(self) -> list[Tensor]:
        h = (self.hidden_size, "hidden")
        found = [
            Tensor.over("shared.weight", "embeddings.tokens", Role.EMBEDDING, (self.vocab_size, ""), h),
            Tensor.over(_BIAS, "attention.bias", Role.KEPT, (self.buckets, ""), (self.heads[0], "")),
        ]

        def linear(tensor: str, label: str, n: tuple[int, str], k: tuple[int, str]) -> None:
            found.append(Tensor.over(tensor + ".weight", label, Role.LINEAR, n, k))

        for i in range(self.layers):
            t, n = self.layer_prefix.format(i), f"layers.{i}."
            q, k = ((self.heads[i] * self.head_dim, n + f"attention.{x}") for x in ("queries", "keys"))
            f = (self.ffn[i], n + "ffn")
            if self.heads[i]:
                found.append(Tensor.over(t + "layer.0.layer_norm.weight", n + "attention.norm", Role.KEPT, h))
                s = t + "layer.0.SelfAttention."
                linear(s + "q", n + "attention.query", q, h)
                linear(s + "k", n + "attention.key", k, h)
                linear(s + "v", n + "attention.value", k, h)
                linear(s + "o", n + "attention.out", h, q)
            if self.ffn[i]:
                found.append(Tensor.over(t + "layer.1.layer_norm.weight", n + "ffn.norm", Role.KEPT, h))
                for name, label in zip(self._ups(), ("gate", "up") if self.gated else ("up",), strict=True):
                    linear(f"{t}layer.1.DenseReluDense.{name}", f"{n}ffn.{label}", f, h)
                linear(t + "layer.1.DenseReluDense.wo", n + "ffn.down", h, f)
        found.append(Tensor.over("encoder.final_layer_norm.weight", "norm", Role.KEPT, h))
        return found + pooling_tensors(self.pooling, self.hidden_size)

    def _ups(self) -> tuple[str, ...]:
        return ("wi_0", "wi_1") if self.gated else ("wi",)

    def _stacks_of(self, i: int) -> tuple[tuple[str, ...], ...]:
        """Queries with keys and values, attention's output, what goes into the feed-forward block, what comes out."""
        t = self.layer_prefix.format(i)
        s, m = t + "layer.0.SelfAttention.", t + "layer.1.DenseReluDense."
        ups = tuple(f"{m}{name}.weight" for name in self._ups())
        return tuple(f"{s}{x}.weight" for x in "qkv"), (s + "o.weight",), ups, (m + "wo.weight",)

    def stacks(self) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        for i in range(self.layers):
            qkv, out, ups, down = self._stacks_of(i)
            found += [qkv, out] if self.heads[i] else []
            found += [ups, down] if self.ffn[i] else []
        return found + pooling_stacks(self.pooling)

    def folds(self) -> list[Fold]:
        found: list[Fold] = []
        for i in range(self.layers):
            t = self.layer_prefix.format(i)
            qkv, out, ups, down = self._stacks_of(i)
            if self.heads[i]:
                found += [Fold(qkv, (t + "layer.0.layer_norm.weight",)), Fold(out, (qkv[2],))]
            if self.ffn[i]:
                found.append(Fold(ups, (t + "layer.1.layer_norm.weight",)))
                if self.gated:
                    found.append(Fold(down, (ups[1],)))
        return found

    def build(self, p: Program, w: Parameters) -> None:
        bias: Any = w.vector(_BIAS)[distance_buckets(self.buckets, self.far)].T  # [A, 2 far + 1]

        def linear(name: str, x: Value, terms: int, *weights: str) -> Value:
            limit = w.limit(*weights)
            return p.linear(name, x, w.linear(*weights), terms=1 if limit else terms, limit=limit)

        def norm(name: str, x: Value, tensor: str) -> Value:
            return p.rms_norm(name, x, w.vector(tensor + ".weight"), self.eps)

        h = p.embed(w.table("shared.weight"))  # [T, H]
        for i, A in enumerate(self.heads):
            t, n = self.layer_prefix.format(i), f"layers.{i}."
            qkv, out, ups, down = self._stacks_of(i)
            self._trace(p, i, h)
            if A:
                x = norm(n + "attention.norm", h, t + "layer.0.layer_norm")  # [T, H]
                x = linear(n + "attention.qkv", x, self.terms, *qkv)  # [T, 3 A d]
                a = p.attention(n + "attention", x, A, A, self.head_dim, False, 1.0, bias=bias)  # [T, A d]
                h = p.add(h, linear(n + "attention.out", a, 1, *out))  # [T, H]
            if self.ffn[i]:
                x = norm(n + "ffn.norm", h, t + "layer.1.layer_norm")  # [T, H]
                f = linear(n + ("ffn.gate_up" if self.gated else "ffn.up"), x, self.terms, *ups)  # [T, F or 2F]
                f = p.gate(f, self.activation) if self.gated else p.activation(f, self.activation)  # [T, F]
                h = p.add(h, linear(n + "ffn.down", f, self.terms, *down))  # [T, H]
        self._trace(p, self.layers, h)
        h = norm("norm", h, "encoder.final_layer_norm")  # [T, H]
        p.output("hidden", h)
        if self.pooling is not None:
            add_pooling(p, w, h, self.pooling)
        p.set_max_positions(self.max_positions)
