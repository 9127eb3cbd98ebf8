"""Llama decoders (arXiv 2302.13971), and Qwen2, which adds biases to Q, K and V."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from aerogel import _core
from aerogel.architectures.base import Architecture, Config, Role, Tensor, Weights, add_pooling
from aerogel.errors import ConfigError, UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.checkpoint import Pooling


class Llama(Architecture):
    """Outputs "logits" [T, V] (or of each sequence's last token only), "hidden" [T, H], and with a pooling "pooled" and
    "embedding" [S, H].
    """

    model_types: ClassVar = ("llama", "qwen2")
    harmless: ClassVar = {
        r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq": "rotary frequencies are computed",
        r"rope_freqs\.weight": "rotary frequencies are computed",
    }
    generates: ClassVar = True

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        c = Config(config)
        self.layers = c.integer("num_hidden_layers")
        self.hidden_size = c.integer("hidden_size")
        self.ffn = c.integer("intermediate_size")
        self.heads = c.integer("num_attention_heads")
        self.kv_heads = c.integer("num_key_value_heads", self.heads)
        self.vocab_size = c.integer("vocab_size")
        self.max_positions = c.integer("max_position_embeddings")
        self.eps = c.number("rms_norm_eps", 1e-6)
        if "head_dim" not in config and self.hidden_size % self.heads:
            raise ConfigError(
                f"config: hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.heads}"
            )
        self.head_dim = c.integer("head_dim", self.hidden_size // self.heads)
        if self.head_dim % 2:
            raise ConfigError(f"config: head_dim {self.head_dim} is odd, which rotary embeddings cannot be")
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"config: num_attention_heads {self.heads} is not a multiple of num_key_value_heads {self.kv_heads}"
            )
        c.choice("hidden_act", ["silu", "swish"], "silu")
        c.only("partial_rotary_factor", 1, 1.0)
        self.qkv_bias = self.out_bias = c.boolean("attention_bias", False)
        if config["model_type"] == "qwen2":
            self.qkv_bias, self.out_bias = True, False
        self.ffn_bias = c.boolean("mlp_bias", False)
        if config.get("sliding_window") is not None and c.boolean(
            "use_sliding_window", config["model_type"] != "qwen2"
        ):
            raise UnsupportedModelError(
                f"config: sliding_window: {config['sliding_window']!r}: windowed attention is not supported"
            )
        kinds = set(config.get("layer_types") or ())
        if kinds - {"full_attention"}:
            raise UnsupportedModelError(
                f"config: layer_types: {', '.join(sorted(map(str, kinds)))}: only full_attention is supported"
            )
        declared = c.architecture("ForCausalLM") or ""
        if not declared.endswith(("ForCausalLM", "Model")):
            raise UnsupportedModelError(
                f"config: architectures: {declared!r} is not supported, only language models are"
            )
        self.has_head = declared.endswith("ForCausalLM")
        self.inverse_frequencies = rotary_frequencies(c, self.head_dim)
        # Without a word in the config: tied is what Transformers assumes for neither family, so the tensors decide.
        self.tied = self.has_head and c.boolean("tie_word_embeddings", "lm_head.weight" not in names)
        self.pooling = pooling
        self.outputs = ("logits", "hidden") if self.has_head else ("hidden",)
        if pooling is not None:
            self.outputs += ("embedding", "pooled")
        self.harmless = dict(type(self).harmless)
        if self.tied:
            self.harmless[r"lm_head\.weight"] = "tied to the token embeddings"
        self.generates = self.has_head

    def tensors(self) -> list[Tensor]:
        h, f, d = self.hidden_size, self.ffn, self.head_dim
        found = [Tensor("embed_tokens.weight", (self.vocab_size, h), Role.EMBEDDING, "embeddings.tokens")]

        def linear(tensor: str, n: int, k: int, label: str, bias: bool) -> None:
            found.append(Tensor(tensor + ".weight", (n, k), Role.LINEAR, label))
            if bias:
                found.append(Tensor(tensor + ".bias", (n,), Role.KEPT, label + ".bias"))

        for i in range(self.layers):
            t, n = f"layers.{i}.", f"layers.{i}."
            found.append(Tensor(t + "input_layernorm.weight", (h,), Role.KEPT, n + "attention.norm"))
            linear(t + "self_attn.q_proj", self.heads * d, h, n + "attention.query", self.qkv_bias)
            linear(t + "self_attn.k_proj", self.kv_heads * d, h, n + "attention.key", self.qkv_bias)
            linear(t + "self_attn.v_proj", self.kv_heads * d, h, n + "attention.value", self.qkv_bias)
            linear(t + "self_attn.o_proj", h, self.heads * d, n + "attention.out", self.out_bias)
            found.append(Tensor(t + "post_attention_layernorm.weight", (h,), Role.KEPT, n + "ffn.norm"))
            linear(t + "mlp.gate_proj", f, h, n + "ffn.gate", self.ffn_bias)
            linear(t + "mlp.up_proj", f, h, n + "ffn.up", self.ffn_bias)
            linear(t + "mlp.down_proj", h, f, n + "ffn.down", self.ffn_bias)
        found.append(Tensor("norm.weight", (h,), Role.KEPT, "norm"))
        if self.has_head and not self.tied:
            found.append(Tensor("lm_head.weight", (self.vocab_size, h), Role.HEAD, "head"))
        return found

    def stacks(self) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        for i in range(self.layers):
            t = f"layers.{i}."
            found.append(tuple(t + f"self_attn.{x}_proj.weight" for x in "qkv"))
            found.append((t + "self_attn.o_proj.weight",))
            found.append((t + "mlp.gate_proj.weight", t + "mlp.up_proj.weight"))
            found.append((t + "mlp.down_proj.weight",))
        if self.has_head:
            found.append(("embed_tokens.weight" if self.tied else "lm_head.weight",))
        return found

    def build(self, p: _core.Program, w: Weights) -> None:
        A, G, d = self.heads, self.kv_heads, self.head_dim

        def linear(name: str, x: int, bias: bool, *tensors: str, terms: int = 1) -> int:
            biases = w.vectors(*[t + ".bias" for t in tensors]) if bias else None
            return p.linear(name, x, w.linear(*[t + ".weight" for t in tensors]), biases, terms=terms)

        def norm(name: str, x: int, tensor: str) -> int:
            return p.rms_norm(name, x, w.vector(tensor + ".weight"), self.eps)

        # Some channels behind a norm or a gate are far larger than the rest: one int8 scale a token cannot hold both (on
        # SmolLM2-135M it costs 3 % of perplexity). Those inputs are split in two int8 terms; attention's are tame.
        outliers = 2

        cos, sin = rotary_tables(self.inverse_frequencies, self.max_positions)  # [positions, d/2] each
        h = p.embed(w.table("embed_tokens.weight"))  # [T, H]
        for i in range(self.layers):
            n = f"layers.{i}."
            s = n + "self_attn."
            x = norm(n + "attention.norm", h, n + "input_layernorm")  # [T, H]
            qkv = linear(
                n + "attention.qkv", x, self.qkv_bias, s + "q_proj", s + "k_proj", s + "v_proj", terms=outliers
            )  # [T, (A+2G)d]
            qkv = p.rope(qkv, A + G, d, cos, sin)  # [T, (A+2G)d], queries and keys rotated
            a = p.attention(n + "attention", qkv, A, G, d, causal=True)  # [T, A d]
            h = p.add(h, linear(n + "attention.out", a, self.out_bias, s + "o_proj"))  # [T, H]
            x = norm(n + "ffn.norm", h, n + "post_attention_layernorm")  # [T, H]
            f = linear(
                n + "ffn.gate_up", x, self.ffn_bias, n + "mlp.gate_proj", n + "mlp.up_proj", terms=outliers
            )  # [T, 2F]
            f = p.silu_gate(f)  # [T, F]
            h = p.add(h, linear(n + "ffn.down", f, self.ffn_bias, n + "mlp.down_proj", terms=outliers))  # [T, H]
        h = norm("norm", h, "norm")  # [T, H]
        p.output("hidden", h)
        if self.pooling is not None:
            add_pooling(p, h, self.pooling)
        if self.has_head:
            last = p.select_last(h)  # [T, H], or [S, H] when only the last tokens are wanted
            head = "embed_tokens.weight" if self.tied else "lm_head.weight"
            p.output("logits", p.linear("head", last, w.linear(head), terms=outliers))  # [T, V] or [S, V]
        p.set_max_positions(self.max_positions)


def rotary_frequencies(c: Config, head_dim: int) -> np.ndarray:
    """The angle by which pair i turns per position, float32 [d/2], with the config's scaling for long contexts."""
    # Newer configs hold everything in rope_parameters, older ones rope_theta and rope_scaling.
    scaling = c.values.get("rope_parameters") or c.values.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise ConfigError(f"config: rope_scaling: expected an object, got {scaling!r}")
    r = Config(scaling)
    theta = r.number("rope_theta", c.number("rope_theta", 10000.0))
    if theta <= 0:
        raise ConfigError(f"config: rope_theta: expected a positive number, got {theta!r}")
    r.only("partial_rotary_factor", 1, 1.0)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = (1.0 / np.float32(theta) ** exponents).astype(np.float32)
    if kind == "default":
        return frequencies
    if kind == "linear":
        return (frequencies / np.float32(_positive(r, "factor"))).astype(np.float32)
    if kind == "llama3":
        return _llama3(frequencies, r)
    raise UnsupportedModelError(f"config: rope_scaling: type {kind!r} is not supported, only default, linear, llama3")


def _llama3(frequencies: np.ndarray, r: Config) -> np.ndarray:
    """Llama 3.1: long wavelengths are slowed by `factor`, short ones left alone, those between blended."""
    factor, low, high = (_positive(r, key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    original = r.integer("original_max_position_embeddings")
    if high <= low:
        raise ConfigError(f"config: rope_scaling: high_freq_factor {high} is not above low_freq_factor {low}")
    wavelength = 2 * math.pi / frequencies
    blend = np.clip((original / wavelength - low) / (high - low), 0, 1)  # 0: slowed, 1: left alone
    return ((1 - blend) * frequencies / factor + blend * frequencies).astype(np.float32)


def _positive(r: Config, key: str) -> float:
    value = r.number(key)
    if value <= 0:
        raise ConfigError(f"config: rope_scaling: {key}: expected a positive number, got {value}")
    return value


def rotary_tables(frequencies: np.ndarray, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of position times frequency, float32 [positions, d/2]."""
    # The products are rounded to float32 before the cosine, as the training frameworks do.
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies
    return np.cos(angles), np.sin(angles)
