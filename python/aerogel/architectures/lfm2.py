"""LFM2 (arXiv 2511.23404): most layers have a short causal convolution between two gates, the others attention whose queries
and keys are normed head by head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from aerogel.architectures.config import PER_LAYER, Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import decoder_names
from aerogel.architectures.decoder_settings import DECODER
from aerogel.architectures.decoder_tensors import linear_tensors, made_by, norm_fold, norm_tensors
from aerogel.architectures.details import Details, Modules
from aerogel.architectures.files import GGUFSource
from aerogel.architectures.fused import Fused
from aerogel.architectures.pooling import Pooling
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Refused, Settings
from aerogel.architectures.tensors import Fold, Role, Tensor
from aerogel.errors import ConfigError, UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

_CONV, _ATTENTION = "conv", "full_attention"
_NORM = "operator_norm"
#: The parts of conv.in_proj: the gate before the convolution, the one behind it, and what is convolved.
_PARTS = ("conv.b_proj", "conv.c_proj", "conv.x_proj")
_OUT, _KERNEL = "conv.out_proj", "conv.conv"
_UNREAD = "of older configs; Transformers does not read it"


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    """A layer without key heads has a convolution."""
    kv_heads = config.pop(PER_LAYER["num_key_value_heads"], None)
    if kv_heads is not None:
        config["layer_types"] = [_ATTENTION if count else _CONV for count in kv_heads]
    config["conv_bias"] = any(name.endswith("shortconv.in_proj.bias") for name in file.tensors)


class Lfm2(Decoder):
    """Layers with a convolution, beside some with attention. Convolutions have a channel for each of the hidden states, as
    Transformers wants it: the two are removed together.
    """

    model_types: ClassVar = ("lfm2",)
    saved: ClassVar = {
        "lfm2": replace(
            saved_names("Lfm2Model", classifies=False),
            parts=("embed_tokens.", "layers.", "embedding_norm."),
            fused=(Fused("layers.{n}.conv.in_proj", tuple("layers.{n}." + part for part in _PARTS)),),
        )
    }
    settings: ClassVar = DECODER | Settings(
        "config.json",
        used={
            "layer_types": "which layers have attention, and which a convolution",
            "full_attn_idxs": "the layers with attention, where layer_types does not say it",
            "conv_L_cache": "how many tokens a convolution sees",
            "conv_bias": "biases of the convolutions and of their linears",
            "norm_eps": "RMS norm",
            "block_ff_dim": "width of the feed-forward blocks, before intermediate_size",
            "block_auto_adjust_ff_dim": "whether two thirds of that width are the real one",
            "block_ffn_dim_multiplier": "a factor on the real width",
            "block_multiple_of": "what the real width is a multiple of",
            "tie_embedding": "whether the head is the token embeddings, before tie_word_embeddings",
        },
        harmless={
            "rms_norm_eps": "norm_eps says it",
            **dict.fromkeys(("block_dim", "conv_dim", "conv_dim_out", "num_heads", "block_norm_eps"), _UNREAD),
            **dict.fromkeys(("block_use_swiglu", "block_*_init*", "conv_use_xavier_init", "use_pos_enc"), _UNREAD),
            "theta": _UNREAD,
        },
        refused={
            "is_causal": Refused("attention to what comes after", (True,)),
            "hidden_act": Refused("another gate", ("silu", "swish")),
        },
    )
    eps_key: ClassVar = "norm_eps"
    default_eps: ClassVar = 1e-5
    modules: ClassVar = Modules(
        norm="embedding_norm",
        out="self_attn.out_proj",
        query_norm="self_attn.q_layernorm",
        key_norm="self_attn.k_layernorm",
        gate="feed_forward.w1",
        up="feed_forward.w3",
        down="feed_forward.w2",
    )
    gguf: ClassVar = {
        "lfm2": replace(
            decoder_names(
                "lfm2",
                "Lfm2ForCausalLM",
                {
                    "attn_norm": _NORM,
                    "ffn_norm": "ffn_norm",
                    "attn_q_norm": modules.query_norm,
                    "attn_k_norm": modules.key_norm,
                },
                keys={"norm_eps": "attention.layer_norm_rms_epsilon", "conv_L_cache": "shortconv.l_cache"},
                defaults={"norm_eps": 1e-5, "rope_theta": 1e6, "block_auto_adjust_ff_dim": False},
                # llama.cpp's own name of the last norm, and what it was called for a while
                tensors={
                    "token_embd_norm.weight": "embedding_norm.weight",
                    "output_norm.weight": "embedding_norm.weight",
                },
                blocks={
                    "attn_output": modules.out,
                    "ffn_gate": modules.gate,
                    "ffn_up": modules.up,
                    "ffn_down": modules.down,
                    "shortconv.in_proj": "conv.in_proj",
                    "shortconv.conv": _KERNEL,
                    "shortconv.out_proj": _OUT,
                },
                finish=_finish_gguf,
            ),
            with_middle=(_KERNEL + ".weight",),
            per_layer=("num_key_value_heads",),
        )
    }

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        c = Config(config)
        self.kinds = _kinds(c)
        self.taps = c.integer("conv_L_cache", 3)
        self.conv_bias = c.boolean("conv_bias", False)
        super().__init__(_plain(c, self.kinds), names, pooling)

    def details_of(self, c: Config) -> Details:
        return Details(
            rotaries=(rotary(c, self.head_dim, theta=1000000.0),) * self.layers,
            windows=(None,) * self.layers,
            attention_norms=(_NORM, None),
            ffn_norms=("ffn_norm", None),
            qk_norm="head",
        )

    def settled(self, config: Mapping[str, Any]) -> dict[str, Any]:
        gone = ("block_ff_dim", "block_dim", "conv_dim", "conv_dim_out", "num_heads")
        return {**{key: value for key, value in config.items() if key not in gone}, "block_auto_adjust_ff_dim": False}

    def layer_settings(self, config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
        return {"layer_types": [self.kinds[i] for i in kept]}

    def _mixer_tensors(self, i: int) -> list[Tensor]:
        if self.kinds[i] != _CONV:
            return super()._mixer_tensors(i)
        t, n, h = f"layers.{i}.", f"layers.{i}.conv.", (self.hidden_size, "hidden")
        found = norm_tensors(t + _NORM, n + "norm", h)
        for part, label in zip(_PARTS, ("before", "after", "values"), strict=True):
            found += linear_tensors(t + part, n + label, h, h, self.conv_bias)
        found.append(Tensor.over(t + _KERNEL + ".weight", n + "kernel", Role.KEPT, h, (1, ""), (self.taps, "")))
        if self.conv_bias:
            found.append(Tensor.over(t + _KERNEL + ".bias", n + "kernel.bias", Role.KEPT, h))
        return found + linear_tensors(t + _OUT, n + "out", h, h, self.conv_bias)

    def _mixer_stacks(self, i: int) -> list[tuple[str, ...]]:
        if self.kinds[i] != _CONV:
            return super()._mixer_stacks(i)
        t = f"layers.{i}."
        return [tuple(f"{t}{part}.weight" for part in _PARTS), (f"{t}{_OUT}.weight",)]

    def _mixer_folds(self, i: int) -> list[Fold]:
        if self.kinds[i] != _CONV:
            return super()._mixer_folds(i)
        t = f"layers.{i}."
        readers = tuple(f"{t}{part}.weight" for part in _PARTS)
        gated = Fold((f"{t}{_OUT}.weight",), made_by(t + _PARTS[1], self.conv_bias))
        return [*norm_fold(self.details, t, _NORM, readers), gated]

    def _mixed(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        if self.kinds[i] != _CONV:
            return super()._mixed(p, w, i, h)
        t, n = f"layers.{i}.", f"layers.{i}.conv"
        x = self._normalized(p, w, n + ".norm", h, t + _NORM)  # [T, H]
        terms = self._terms(True)
        parts = self._linear(p, w, n + ".in", x, self.conv_bias, *[t + part for part in _PARTS], terms=terms)  # [T, 3H]
        kernel = w.vector(f"{t}{_KERNEL}.weight")[:, 0]  # [H, taps]
        bias = w.vector(f"{t}{_KERNEL}.bias") if self.conv_bias else None
        y = p.short_conv(n, parts, kernel, bias)  # [T, H]
        y = self._linear(p, w, n + ".out", y, self.conv_bias, t + _OUT, terms=terms)  # [T, H]
        return p.add(h, y)


def _kinds(c: Config) -> list[str]:
    """What each layer has."""
    layers = c.integer("num_hidden_layers")
    kinds = c.values.get("layer_types")
    if kinds is None:
        indices = c.values.get("full_attn_idxs")
        if indices is None:
            return [_ATTENTION] * layers
        if not isinstance(indices, list) or not all(type(i) is int for i in indices):
            raise ConfigError(f"config: full_attn_idxs: expected a list of whole numbers, got {indices!r:.80}")
        return [_ATTENTION if i in indices else _CONV for i in range(layers)]
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise ConfigError(f"config: layer_types: expected a list of words, got {kinds!r:.80}")
    unknown = sorted(set(kinds) - {_CONV, _ATTENTION})
    if unknown:
        raise UnsupportedModelError(
            f"config: layer_types: {', '.join(unknown)}: only {_CONV} and {_ATTENTION} are supported"
        )
    if len(kinds) != layers:
        raise ConfigError(f"config: layer_types: expected one word for each of {layers} layers, got {len(kinds)}")
    return kinds


def _plain(c: Config, kinds: Sequence[str]) -> dict[str, Any]:
    """The config in the words of other decoders, which know layers without heads."""
    layers = len(kinds)
    found = dict(c.values)
    found["tie_word_embeddings"] = c.boolean("tie_embedding", c.boolean("tie_word_embeddings", True))
    found["head_dim"] = c.head_dim(c.integer("hidden_size"))
    if PER_LAYER["intermediate_size"] not in found:
        found["intermediate_size"] = _ffn_width(c)
    for key, default in (("num_attention_heads", None), ("num_key_value_heads", (8,) * layers)):
        counts = c.per_layer(key, layers, default)
        counts = tuple(count if kind == _ATTENTION else 0 for count, kind in zip(counts, kinds, strict=True))
        found[key], found[PER_LAYER[key]] = max(counts), list(counts)
    return found


def _ffn_width(c: Config) -> int:
    """The feed-forward blocks' real width."""
    width = c.integer("intermediate_size" if c.values.get("block_ff_dim") is None else "block_ff_dim")
    if not c.boolean("block_auto_adjust_ff_dim", True):
        return width
    width = int(2 * width / 3)
    if "block_ffn_dim_multiplier" in c.values and c.values["block_ffn_dim_multiplier"] is None:
        return width
    multiple = c.integer("block_multiple_of", 256)
    width = int(c.number("block_ffn_dim_multiplier", 1.0) * width)
    return multiple * -(-width // multiple)
