"""How llama.cpp names the tensors and metadata of decoders; a family says what is its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aerogel.architectures.files import GGUFNames, GGUFSource
from aerogel.architectures.rope_gguf import ROPE_TENSORS, add_rope_scaling
from aerogel.errors import ConfigError

_KEYS = {
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
_TENSORS = {
    "token_embd.weight": "embed_tokens.weight",
    "output_norm.weight": "norm.weight",
    "output.weight": "lm_head.weight",
}
#: The linears of a block.
_LINEARS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
#: The norms of a block whose norms stand where Llama's do.
PRE_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}

#: The number that layer norms add to the variance.
LAYER_NORM = "attention.layer_norm_epsilon"

#: Those of queries and keys.
QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


def decoder_names(
    model_type: str,
    architecture: str,
    norms: Mapping[str, str] = PRE_NORMS,
    keys: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
    tensors: Mapping[str, str] | None = None,
    interleaved: bool = False,
    finish: Callable[[GGUFSource, dict[str, Any]], None] | None = None,
    factors: bool = False,
    norm_offset: float = 0.0,
    partial: bool = False,
    blocks: Mapping[str, str] | None = None,
    norm_biases: bool = False,
) -> GGUFNames:
    """How one `general.architecture` of GGUF translates.

    Args:
        model_type, architecture: of the config that the file becomes.
        norms: names of a block's norms -> names in a layer, both without `.weight`.
        keys: config key -> metadata key, besides those of all decoders.
        defaults: config entries that the metadata does not carry.
        tensors: names outside the blocks, besides those of all decoders.
        interleaved: whether llama.cpp stores the rows of queries and keys interleaved, as it does for its `llama` rotary
            embedding.
        finish: completes the config from the file, after what is done for all decoders.
        norm_offset: what llama.cpp's converter adds to the weights of norms.
        factors: whether llama.cpp reads factors of rotary frequencies for it.
        partial: as `add_rope_scaling`.
        blocks: names of a block's linears that are called otherwise -> names in a layer, both without `.weight`.
        norm_biases: whether norms are layer norms with biases.
    """

    def complete(file: GGUFSource, config: dict[str, Any]) -> None:
        _finish(file, config, partial)
        if finish is not None:
            finish(file, config)

    linears = {**_LINEARS, **(blocks or {})}
    names = {f"{short}.weight": f"layers.{{n}}.{long}.weight" for short, long in {**norms, **linears}.items()}
    biased = {**norms, **linears} if norm_biases else linears
    names |= {f"{short}.bias": f"layers.{{n}}.{long}.bias" for short, long in biased.items()}
    outside = {**_TENSORS, "output_norm.bias": "norm.bias"} if norm_biases else _TENSORS
    common = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu"}
    return GGUFNames(
        keys={**_KEYS, **(keys or {})},
        defaults={**common, **(defaults or {}), "model_type": model_type, "architectures": [architecture]},
        tensors={**outside, **(tensors or {})},
        blocks=names,
        interleaved={"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"} if interleaved else {},
        finish=complete,
        ignored=ROPE_TENSORS if factors else (),
        norm_offset=norm_offset,
    )


def _finish(file: GGUFSource, config: dict[str, Any], partial: bool) -> None:
    """Completes the config of any decoder: heads, biases, whether the head is tied, rotary embeddings."""
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    if heads < 1 or hidden % heads and "head_dim" not in config:
        raise ConfigError(f"{file.path}: expected a width that {heads} heads divide, got {hidden}")
    config.setdefault("num_key_value_heads", heads)
    config.setdefault("head_dim", hidden // heads)
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    config["mlp_bias"] = "blk.0.ffn_down.bias" in file.tensors
    add_rope_scaling(file, config, partial)
