"""Llama decoders (arXiv 2302.13971), and Qwen2, which adds biases to Q, K and V."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from aerogel.architectures.architecture import Architecture
from aerogel.architectures.config import PER_LAYER, Config, is_folded
from aerogel.architectures.files import GGUFNames, GGUFSource, SavedNames
from aerogel.architectures.pooling import Pooling, add_pooling, pooling_stacks, pooling_tensors
from aerogel.architectures.rope import rotary
from aerogel.architectures.rope_gguf import ROPE_TENSORS, add_rope_scaling
from aerogel.architectures.settings import CONFIG, Refused, Settings
from aerogel.architectures.tensors import Fold, Role, Tensor
from aerogel.errors import ConfigError, UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

log = logging.getLogger("aerogel")


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    if heads < 1 or hidden % heads and "head_dim" not in config:
        raise ConfigError(f"{file.path}: expected a width that {heads} heads divide, got {hidden}")
    config.setdefault("num_key_value_heads", heads)
    config.setdefault("head_dim", hidden // heads)
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    add_rope_scaling(file, config)


_GGUF_KEYS = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
    "is_causal": "attention.causal",
}
_GGUF_TENSORS = {
    "token_embd.weight": "embed_tokens.weight",
    "output_norm.weight": "norm.weight",
    "output.weight": "lm_head.weight",
}
_GGUF_BLOCKS = {
    "attn_norm.weight": "layers.{n}.input_layernorm.weight",
    "attn_q.weight": "layers.{n}.self_attn.q_proj.weight",
    "attn_q.bias": "layers.{n}.self_attn.q_proj.bias",
    "attn_k.weight": "layers.{n}.self_attn.k_proj.weight",
    "attn_k.bias": "layers.{n}.self_attn.k_proj.bias",
    "attn_v.weight": "layers.{n}.self_attn.v_proj.weight",
    "attn_v.bias": "layers.{n}.self_attn.v_proj.bias",
    "attn_output.weight": "layers.{n}.self_attn.o_proj.weight",
    "attn_output.bias": "layers.{n}.self_attn.o_proj.bias",
    "ffn_norm.weight": "layers.{n}.post_attention_layernorm.weight",
    "ffn_gate.weight": "layers.{n}.mlp.gate_proj.weight",
    "ffn_up.weight": "layers.{n}.mlp.up_proj.weight",
    "ffn_down.weight": "layers.{n}.mlp.down_proj.weight",
}

GGUF = {
    "llama": GGUFNames(
        keys=_GGUF_KEYS,
        defaults={
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
        },
        tensors=_GGUF_TENSORS,
        blocks=_GGUF_BLOCKS,
        interleaved={"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"},
        finish=_finish_gguf,
        ignored=ROPE_TENSORS,
    ),
    "qwen2": GGUFNames(
        keys=_GGUF_KEYS,
        defaults={
            "model_type": "qwen2",
            "architectures": ["Qwen2ForCausalLM"],
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "use_sliding_window": False,
        },
        tensors=_GGUF_TENSORS,
        blocks=_GGUF_BLOCKS,
        finish=_finish_gguf,
    ),
}

SETTINGS = CONFIG | Settings(
    "config.json",
    used={
        "num_hidden_layers": "layers",
        "hidden_size": "width",
        "num_attention_heads": "query heads",
        "num_key_value_heads": "key and value heads",
        "head_dim": "width of a head",
        "intermediate_size": "width of the feed-forward blocks",
        "max_position_embeddings": "the longest sequence",
        "rms_norm_eps": "RMS norm",
        "hidden_act": "only silu",
        "attention_bias": "biases of the attention's linears",
        "mlp_bias": "biases of the feed-forward linears",
        "rope_theta": "rotary embeddings",
        "rope_scaling": "rotary embeddings",
        "rope_parameters": "rotary embeddings, as Transformers 5 writes them",
        "original_max_position_embeddings": "rotary embeddings",
        "partial_rotary_factor": "rotary embeddings",
        "is_causal": "false: each token also attends to what comes after it",
        "sliding_window": "refused where use_sliding_window does not switch it off",
        "use_sliding_window": "only false, or without a window",
        "layer_types": "only full_attention",
    },
    harmless={
        "max_window_layers": "without windows",
        "rope_interleaved": "the layout of another runtime's weights",
        "bias": "the tensors say it",
        "qkv_bias": "the tensors say it",
    },
    refused={
        "use_bidirectional_attention": Refused("attention to what comes after", ()),
        "is_decoder": Refused("attention to what comes after", (True, False)),
        "attention_chunk_size": Refused("chunked attention", ()),
        "num_nextn_predict_layers": Refused("layers that predict more than one token", (0,)),
    },
)


class Llama(Architecture):
    """Outputs "logits" [T, V] (or of each sequence's last token only), "hidden" [T, H], and with a pooling "pooled" and
    "embedding" [S, H].
    """

    model_types: ClassVar = ("llama", "qwen2")
    harmless = {
        r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq": "rotary frequencies are computed",
        r"rope_freqs\.weight": "rotary frequencies are computed",
    }
    generates = True
    layer_prefix: ClassVar = "layers.{}."
    saved: ClassVar = {
        model_type: SavedNames(
            base_class=base,
            prefix="model.",
            parts=("embed_tokens.", "layers.", "norm."),
            tied={"lm_head.weight": "embed_tokens.weight"},
        )
        for model_type, base in (("llama", "LlamaModel"), ("qwen2", "Qwen2Model"))
    }
    gguf: ClassVar = GGUF
    settings: ClassVar = SETTINGS

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        c = Config(config)
        self.layers = c.integer("num_hidden_layers")
        self.hidden_size = c.integer("hidden_size")
        self.ffn = c.per_layer("intermediate_size", self.layers)
        self.heads = c.per_layer("num_attention_heads", self.layers)
        self.kv_heads = c.per_layer("num_key_value_heads", self.layers, self.heads)
        self.vocab_size = c.integer("vocab_size")
        self.eps = c.number("rms_norm_eps", 1e-6)
        self.head_dim = c.head_dim(self.hidden_size)
        if self.head_dim % 2:
            raise ConfigError(f"config: head_dim {self.head_dim} is odd, which rotary embeddings cannot be")
        for i, (heads, kv_heads) in enumerate(zip(self.heads, self.kv_heads, strict=True)):
            if (heads == 0) != (kv_heads == 0) or (kv_heads and heads % kv_heads):
                raise ConfigError(
                    f"config: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
                    f" in layer {i}"
                )
        c.choice("hidden_act", ["silu", "swish"], "silu")
        self.qkv_bias = self.out_bias = c.boolean("attention_bias", False)
        if config["model_type"] == "qwen2":
            self.qkv_bias, self.out_bias = True, False
        if not any(self.heads):
            raise ConfigError("config: attention_heads: expected at least one layer with heads, got none")
        self.ffn_bias = c.boolean("mlp_bias", False)
        for key, widths, block in (
            ("num_attention_heads", self.heads, "attention"),
            ("intermediate_size", self.ffn, "ffn"),
        ):
            if min(widths) < self.least_width(block):
                raise ConfigError(
                    f"config: {PER_LAYER[key]}: expected at least 1 in every layer, as its output has a bias, got 0"
                )
        if config.get("sliding_window") is not None and c.boolean(
            "use_sliding_window", config["model_type"] != "qwen2"
        ):
            raise UnsupportedModelError(
                f"config: sliding_window: {config['sliding_window']!r}: windowed attention is not supported"
            )
        kinds = config.get("layer_types") or []
        if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
            raise ConfigError(f"config: layer_types: expected a list of words, got {kinds!r:.80}")
        if set(kinds) - {"full_attention"}:
            raise UnsupportedModelError(
                f"config: layer_types: {', '.join(sorted(set(kinds)))}: only full_attention is supported"
            )
        declared = c.architecture("ForCausalLM") or ""
        if not declared.endswith(("ForCausalLM", "Model")):
            raise UnsupportedModelError(
                f"config: architectures: {declared!r} is not supported, only language models are"
            )
        self.causal = c.boolean("is_causal", True)
        self.has_head = declared.endswith("ForCausalLM")
        untied = config.get("tie_word_embeddings") is False and "lm_head.weight" not in names
        if self.has_head and untied and pooling is not None:
            log.info("the model has a pooling and no lm_head.weight: it is used for its embeddings")
            self.has_head = False
        self.rotary = rotary(c, self.head_dim)
        self.max_positions = self.rotary.positions
        # Without a word in the config: tied is what Transformers assumes for neither family, so the tensors decide.
        self.tied = self.has_head and c.boolean("tie_word_embeddings", "lm_head.weight" not in names)
        self.pooling = pooling
        self.outputs = ("logits", "hidden") if self.has_head else ("hidden",)
        if pooling is not None:
            self.outputs += ("embedding", "pooled")
        self.harmless = dict(type(self).harmless)
        if self.tied:
            self.harmless[r"lm_head\.weight"] = "tied to the token embeddings"
        self.generates = self.has_head and self.causal
        # Some channels behind a norm or a gate are far larger than the rest: one int8 scale a token cannot hold both (on
        # SmolLM2-135M it costs 3 % of perplexity). Those inputs are split in two int8 terms, unless compression has moved
        # their scales into the weights; attention's are tame.
        self.head_terms = 2
        self.terms = 1 if is_folded(config) else self.head_terms

    def tensors(self) -> list[Tensor]:
        h, v = (self.hidden_size, "hidden"), (self.vocab_size, "")
        found = [Tensor.over("embed_tokens.weight", "embeddings.tokens", Role.EMBEDDING, v, h)]

        def norm(tensor: str, label: str) -> None:
            found.append(Tensor.over(tensor + ".weight", label, Role.KEPT, h))

        def linear(tensor: str, n: tuple[int, str], k: tuple[int, str], label: str, bias: bool) -> None:
            found.append(Tensor.over(tensor + ".weight", label, Role.LINEAR, n, k))
            if bias:
                found.append(Tensor.over(tensor + ".bias", label + ".bias", Role.KEPT, n))

        for i in range(self.layers):
            t = n = f"layers.{i}."
            q = (self.heads[i] * self.head_dim, n + "attention.queries")
            k = (self.kv_heads[i] * self.head_dim, n + "attention.keys")
            f = (self.ffn[i], n + "ffn")
            if self.heads[i]:
                norm(t + "input_layernorm", n + "attention.norm")
                linear(t + "self_attn.q_proj", q, h, n + "attention.query", self.qkv_bias)
                linear(t + "self_attn.k_proj", k, h, n + "attention.key", self.qkv_bias)
                linear(t + "self_attn.v_proj", k, h, n + "attention.value", self.qkv_bias)
                linear(t + "self_attn.o_proj", h, q, n + "attention.out", self.out_bias)
            if self.ffn[i]:
                norm(t + "post_attention_layernorm", n + "ffn.norm")
                linear(t + "mlp.gate_proj", f, h, n + "ffn.gate", self.ffn_bias)
                linear(t + "mlp.up_proj", f, h, n + "ffn.up", self.ffn_bias)
                linear(t + "mlp.down_proj", h, f, n + "ffn.down", self.ffn_bias)
        norm("norm", "norm")
        if self.has_head and not self.tied:
            found.append(Tensor.over("lm_head.weight", "head", Role.HEAD, v, h))
        return found + pooling_tensors(self.pooling, self.hidden_size)

    def least_width(self, block: str) -> int:
        return int(self.out_bias if block == "attention" else self.ffn_bias)

    def stacks(self) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        for i in range(self.layers):
            t = f"layers.{i}."
            if self.heads[i]:
                found.append(tuple(t + f"self_attn.{x}_proj.weight" for x in "qkv"))
                found.append((t + "self_attn.o_proj.weight",))
            if self.ffn[i]:
                found.append((t + "mlp.gate_proj.weight", t + "mlp.up_proj.weight"))
                found.append((t + "mlp.down_proj.weight",))
        if self.has_head:
            found.append(("embed_tokens.weight" if self.tied else "lm_head.weight",))
        return found + pooling_stacks(self.pooling)

    def folds(self) -> list[Fold]:
        found: list[Fold] = []
        for i in range(self.layers):
            t = f"layers.{i}."
            s = t + "self_attn."
            if self.heads[i]:
                group, channels = self.heads[i] // self.kv_heads[i], np.arange(self.heads[i] * self.head_dim)
                head, channel = np.divmod(channels, self.head_dim)
                values = (s + "v_proj.weight", *([s + "v_proj.bias"] if self.qkv_bias else []))
                found.append(Fold(tuple(s + f"{x}_proj.weight" for x in "qkv"), (t + "input_layernorm.weight",)))
                found.append(Fold((s + "o_proj.weight",), values, head // group * self.head_dim + channel))
            if self.ffn[i]:
                m = t + "mlp."
                ups = (m + "up_proj.weight", *([m + "up_proj.bias"] if self.ffn_bias else []))
                gates = (m + "gate_proj.weight", m + "up_proj.weight")
                found.append(Fold(gates, (t + "post_attention_layernorm.weight",)))
                found.append(Fold((m + "down_proj.weight",), ups))
        return found

    def build(self, p: Program, w: Parameters) -> None:
        d = self.head_dim

        def linear(name: str, x: Value, bias: bool, *tensors: str, terms: int = 1) -> Value:
            biases = w.vectors(*[t + ".bias" for t in tensors]) if bias else None
            weights = [t + ".weight" for t in tensors]
            limit = w.limit(*weights)  # a fixed scale has one term
            return p.linear(name, x, w.linear(*weights), biases, terms=1 if limit else terms, limit=limit)

        def norm(name: str, x: Value, tensor: str) -> Value:
            return p.rms_norm(name, x, w.vector(tensor + ".weight"), self.eps)

        h = p.embed(w.table("embed_tokens.weight"))  # [T, H]
        for i, (A, G) in enumerate(zip(self.heads, self.kv_heads, strict=True)):
            n = f"layers.{i}."
            s = n + "self_attn."
            self._trace(p, i, h)
            if A:
                x = norm(n + "attention.norm", h, n + "input_layernorm")  # [T, H]
                qkv = linear(
                    n + "attention.qkv", x, self.qkv_bias, s + "q_proj", s + "k_proj", s + "v_proj", terms=self.terms
                )  # [T, (A+2G)d]
                qkv = p.rope(qkv, A + G, d, self.rotary)  # [T, (A+2G)d], queries and keys rotated
                a = p.attention(n + "attention", qkv, A, G, d, self.causal)  # [T, A d]
                h = p.add(h, linear(n + "attention.out", a, self.out_bias, s + "o_proj"))  # [T, H]
            if self.ffn[i]:
                x = norm(n + "ffn.norm", h, n + "post_attention_layernorm")  # [T, H]
                f = linear(
                    n + "ffn.gate_up", x, self.ffn_bias, n + "mlp.gate_proj", n + "mlp.up_proj", terms=self.terms
                )  # [T, 2F]
                f = p.gate(f, "silu")  # [T, F]
                h = p.add(h, linear(n + "ffn.down", f, self.ffn_bias, n + "mlp.down_proj", terms=self.terms))  # [T, H]
        self._trace(p, self.layers, h)
        h = norm("norm", h, "norm")  # [T, H]
        p.output("hidden", h)
        if self.pooling is not None:
            add_pooling(p, w, h, self.pooling)
        if self.has_head:
            last = p.select_last(h)  # [T, H], or [S, H] when only the last tokens are wanted
            head = "embed_tokens" if self.tied else "lm_head"
            p.output("logits", linear("head", last, False, head, terms=self.head_terms))  # [T, V] or [S, V]
        p.set_max_positions(self.max_positions)
