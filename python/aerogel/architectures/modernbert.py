"""ModernBERT encoders (arXiv 2412.13663): norms before the blocks, rotary embeddings of two bases, windows, GeGLU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from aerogel._core import Rotary
from aerogel.architectures.config import PER_LAYER, Config
from aerogel.architectures.encoder import SETTINGS as ENCODER
from aerogel.architectures.encoder import Names
from aerogel.architectures.files import GGUFNames, GGUFSource, SavedNames
from aerogel.architectures.fused import Fused
from aerogel.architectures.gated import GatedEncoder
from aerogel.architectures.heads import (
    MASKED,
    SEQUENCE,
    TOKENS,
    Activation,
    Head,
    Linear,
    Norm,
    Step,
    classes,
    decoder,
    linear,
    span_head,
    token_head,
)
from aerogel.architectures.pooling import Pooling
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.tensors import Fold, Tensor
from aerogel.errors import ConfigError, UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

_LAYER = "layers.{n}."
FULL, LOCAL = "full_attention", "sliding_attention"
#: The kind of a layer -> what older configs call its base, and what it is where they are silent.
_BASES = {FULL: ("global_rope_theta", 160000.0), LOCAL: ("local_rope_theta", 10000.0)}

_GGUF_BLOCKS = {
    "attn_norm": "attn_norm",
    "attn_qkv": "attn.Wqkv",
    "attn_output": "attn.Wo",
    "ffn_norm": "mlp_norm",
    "ffn_up": "mlp.Wi",
    "ffn_down": "mlp.Wo",
}


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    """llama.cpp writes the whole window, and for the layers one number; bases that it lacks are its own."""
    every = config.pop("global_attn_every_n_layers", 3)
    layers = config["num_hidden_layers"]
    if isinstance(every, list):
        config["layer_types"] = [LOCAL if local else FULL for local in every]
    elif type(every) is int and 0 < every and type(layers) is int:
        config["layer_types"] = [LOCAL if i % every else FULL for i in range(min(layers, 1 << 16))]
    else:
        raise ConfigError(
            f"{file.path}: attention.sliding_window_pattern: expected a positive number, got {every!r:.80}"
        )
    kind = file.metadata.get("modern-bert.rope.scaling.type", "none")
    if kind != "none":
        raise UnsupportedModelError(f"{file.path}: modern-bert.rope.scaling.type: expected none, got {kind!r:.80}")


GGUF = GGUFNames(
    keys={
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "max_position_embeddings": "context_length",
        "norm_eps": "attention.layer_norm_epsilon",
        "local_attention": "attention.sliding_window",
        "global_attn_every_n_layers": "attention.sliding_window_pattern",
        "global_rope_theta": "rope.freq_base",
        "local_rope_theta": "rope.freq_base_swa",
    },
    defaults={
        "model_type": "modernbert",
        "architectures": ["ModernBertModel"],
        "hidden_activation": "gelu",
        "norm_eps": 1e-5,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
    },
    tensors={
        "token_embd.weight": "embeddings.tok_embeddings.weight",
        "token_embd_norm.weight": "embeddings.norm.weight",
        "output_norm.weight": "final_norm.weight",
    },
    blocks={f"{short}.weight": f"layers.{{n}}.{long}.weight" for short, long in _GGUF_BLOCKS.items()},
    finish=_finish_gguf,
)

SETTINGS = ENCODER | Settings(
    "config.json",
    used={
        "max_position_embeddings": "the longest sequence",
        "norm_eps": "layer norms",
        "norm_bias": "biases of the layer norms",
        "hidden_activation": "the gate's activation",
        "attention_bias": "biases of the attention's linears",
        "mlp_bias": "biases of the feed-forward linears",
        "decoder_bias": "a masked language model's bias",
        "classifier_bias": "the bias of the heads' first linear",
        "classifier_activation": "the activation of the heads' first linear",
        "classifier_pooling": "which row a classifier of texts reads: cls or mean",
        "layer_types": "which layers have a window",
        "global_attn_every_n_layers": "the same in older configs",
        "local_attention": "the window: half of it on each side",
        "global_rope_theta": "rotary embeddings of the layers without a window",
        "local_rope_theta": "rotary embeddings of the layers with one",
        "rope_parameters": "rotary embeddings of both, as Transformers 5 writes them",
        "rope_scaling": "rotary embeddings of both",
        "position_embedding_type": "only absolute, which ModernBERT's configs say and do not mean",
    },
    harmless={
        "layer_norm_eps": "norm_eps says it",
        "sparse_pred*": "training only",
        "deterministic_flash_attn": "how fast, not what",
        "reference_compile": "how fast, not what",
        "repad_logits_with_grad": "training only",
        "sliding_window": "local_attention says it",
        "type_vocab_size": "there are no token type embeddings",
        "hidden_act": "hidden_activation says it",
    },
)


class ModernBert(GatedEncoder):
    """Outputs as `Encoder`."""

    model_types: ClassVar = ("modernbert",)
    classes: ClassVar = classes("ModernBert")
    modules: ClassVar = Names(
        words="embeddings.tok_embeddings",
        types=None,
        norm="embeddings.norm",
        query="attn.query",
        key="attn.key",
        value="attn.value",
        out="attn.Wo",
        attention_norm="attn_norm",
        up="mlp.up",
        down="mlp.Wo",
        ffn_norm="mlp_norm",
    )
    gate: ClassVar = "mlp.gate"
    layer_prefix: ClassVar = "layers.{}."
    config_names = {"layer_norm_eps": "norm_eps", "hidden_act": "hidden_activation"}
    masked_tensors: ClassVar = r"(head|decoder)\..*"
    settings: ClassVar = SETTINGS
    gguf: ClassVar = {"modern-bert": GGUF}
    saved: ClassVar = {
        "modernbert": SavedNames(
            base_class="ModernBertModel",
            prefix="model.",
            parts=("embeddings.", "layers.", "final_norm."),
            tied={"decoder.weight": "embeddings.tok_embeddings.weight"},
            classifier="ModernBertForSequenceClassification",
            fused=(
                Fused(_LAYER + "attn.Wqkv", tuple(_LAYER + f"attn.{x}" for x in ("query", "key", "value"))),
                Fused(_LAYER + "mlp.Wi", (_LAYER + "mlp.gate", _LAYER + "mlp.up")),
            ),
        )
    }

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        if _LAYER.format(n=0) + "attn_norm.weight" in names:
            raise UnsupportedModelError(
                "layers.0.attn_norm.weight: ModernBERT's first layer has no norm before its attention: it has to stay"
            )
        super().__init__(config, names, pooling)

    def configure(self, c: Config) -> None:
        self.eps = c.number("norm_eps", 1e-5)
        self.norm_bias = c.boolean("norm_bias", False)
        self.qkv_bias = self.out_bias = c.boolean("attention_bias", False)
        self.up_bias = self.down_bias = c.boolean("mlp_bias", False)
        for key, widths, block in (
            ("num_attention_heads", self.heads, "attention"),
            ("intermediate_size", self.ffn, "ffn"),
        ):
            if min(widths) < self.least_width(block):
                raise ConfigError(
                    f"config: {PER_LAYER[key]}: expected at least 1 in every layer, as its output has a bias, got 0"
                )
        self.kinds = layer_kinds(c, self.layers)
        self.window = c.integer("local_attention", 128, minimum=2) // 2
        self.rotaries = {kind: _rotary(c, kind, self.head_dim) for kind in _BASES}
        self.positions = min(turning.positions for turning in self.rotaries.values())

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        h = (self.hidden_size, "hidden")
        first = linear("head.dense", "head.transform", h, h, c.boolean("classifier_bias", False))
        activation = c.choice("classifier_activation", {**self.activations, "tanh": "tanh"}, "gelu")
        before: list[Step] = [
            first,
            Activation(activation),
            Norm("head.norm", "head.norm", h, self.eps, self.norm_bias),
        ]
        if kind == SEQUENCE:
            pool = c.choice("classifier_pooling", ["cls", "mean"], "cls")
            return Head("scores", (*before, linear("classifier", "classifier", (self.labels, ""), h)), pool)
        if kind == TOKENS:
            return token_head(h, self.labels, before=before)
        if kind != MASKED:
            return span_head(h, "classifier", before=before)
        words, tied = self.module_names.words + ".weight", c.boolean("tie_word_embeddings", True)
        last, unread = decoder(names, "decoder.weight", ("decoder.bias",), words, tied, (self.vocab_size, ""), h)
        if not c.boolean("decoder_bias", True):
            last = Linear(last.weight, None, last.label, last.rows, last.columns, last.tied)
        self.harmless.update(unread)
        return Head("logits", (*before, last))

    def layer_tensors(self, i: int) -> list[Tensor]:
        m, t = self.module_names, self.layer_prefix.format(i)
        lacking = {f"{t}{m.attention_norm}."} if i == 0 or not self.heads[i] else set()
        lacking |= set() if self.heads[i] else {f"{t}{m.out}."}
        lacking |= set() if self.ffn[i] else {f"{t}{m.ffn_norm}.", f"{t}{m.down}."}
        return [x for x in super().layer_tensors(i) if not x.name.startswith(tuple(lacking))]

    def last_tensors(self) -> list[Tensor]:
        return self.norm("final_norm", "norm")

    def least_width(self, block: str) -> int:
        return int(self.out_bias if block == "attention" else self.down_bias)

    def folds(self) -> list[Fold]:
        m = self.module_names
        found = super().folds()
        for i in range(self.layers):
            t = self.layer_prefix.format(i)
            if self.heads[i] and i:
                readers = tuple(f"{t}{x}.weight" for x in (m.query, m.key, m.value))
                found.append(Fold(readers, self._both(t + m.attention_norm, self.norm_bias)))
            if self.ffn[i]:
                readers = (f"{t}{self.gate}.weight", f"{t}{m.up}.weight")
                found.append(Fold(readers, self._both(t + m.ffn_norm, self.norm_bias)))
        return found

    def attention(self, p: Program, w: Parameters, i: int, qkv: Value) -> Value:
        a, window = self.heads[i], self.window if self.kinds[i] == LOCAL else None
        return p.attention(f"layers.{i}.attention", qkv, a, a, self.head_dim, causal=False, window=window)

    def layer_rotary(self, i: int) -> Rotary | None:
        return self.rotaries[self.kinds[i]]

    def layer_settings(self, config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
        return {"layer_types": [self.kinds[i] for i in kept]}

    def finish(self, p: Program, w: Parameters, h: Value) -> Value:
        return self._normed(p, w, "norm", h, "final_norm")

    def _layer(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        m, t, n = self.module_names, self.layer_prefix.format(i), f"layers.{i}."
        if self.heads[i]:
            x = self._normed(p, w, n + "attention.norm", h, t + m.attention_norm) if i else h  # [T, H]
            h = p.add(h, self._attend(p, w, i, x))  # [T, H]
        if self.ffn[i]:
            x = self._normed(p, w, n + "ffn.norm", h, t + m.ffn_norm)  # [T, H]
            h = p.add(h, self._feed(p, w, i, x))  # [T, H]
        return h


def layer_kinds(c: Config, layers: int) -> list[str]:
    """FULL or LOCAL for every layer: as layer_types says, or older configs' global_attn_every_n_layers."""
    kinds = c.values.get("layer_types")
    if kinds is None:
        every = c.integer("global_attn_every_n_layers", 3)
        return [LOCAL if i % every else FULL for i in range(layers)]
    if not isinstance(kinds, list) or not all(kind in _BASES for kind in kinds) or len(kinds) != layers:
        raise ConfigError(
            f"config: layer_types: expected {FULL} or {LOCAL} for each of {layers} layers, got {kinds!r:.120}"
        )
    return kinds


def _rotary(c: Config, kind: str, head_dim: int) -> Rotary:
    own, default = _BASES[kind]
    both = c.values.get("rope_parameters") or {}
    if not isinstance(both, Mapping) or not isinstance(both.get(kind) or {}, Mapping):
        raise ConfigError(f"config: rope_parameters: expected an object for each kind of layer, got {both!r:.80}")
    values = {
        "rope_parameters": both.get(kind),
        "rope_scaling": c.values.get("rope_scaling"),
        "max_position_embeddings": c.values.get("max_position_embeddings"),
    }
    if (both.get(kind) or {}).get("rope_theta") is None:
        values["rope_theta"] = c.number(own, default)
    return rotary(Config(values), head_dim)
