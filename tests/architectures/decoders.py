"""Tiny decoders of every kind, made by Transformers: what the tests of families share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .. import tiny_models

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factor": [1.5, 2.0, 3.0, 4.0, 5.0, 6.0],
}
GRANITE = {
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.125,
    "logits_scaling": 8.0,
}

#: name -> model type, what its config has besides `common`
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, llama3": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "llama, gelu": ("llama", {"hidden_act": "gelu"}),
    "qwen2": ("qwen2", {}),
    "qwen2, windows from layer 1": ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen2, layer_types": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "qwen3, tied": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3, biases": ("qwen3", {"head_dim": 12, "attention_bias": True}),
    "qwen3, yarn": ("qwen3", {"head_dim": 16, "rope_parameters": YARN}),
    "qwen3, windows": (
        "qwen3",
        {"head_dim": 16, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, window": ("mistral", {"sliding_window": 5, "head_dim": 16}),
    "mistral, window of two": ("mistral", {"sliding_window": 2}),
    "ministral": (
        "ministral",
        {"sliding_window": 4, "head_dim": 8, "layer_types": ["full_attention"] + ["sliding_attention"] * 2},
    ),
    "gemma": ("gemma", {"head_dim": 16, "tie_word_embeddings": True}),
    "gemma, own head": (
        "gemma",
        {"head_dim": 12, "attention_bias": True, "hidden_act": "gelu", "num_key_value_heads": 1},
    ),
    "gemma2": (
        "gemma2",
        {
            "head_dim": 16,
            "tie_word_embeddings": True,
            "sliding_window": 4,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma2, no caps": (
        "gemma2",
        {
            "head_dim": 12,
            "sliding_window": 3,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "attention_bias": True,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        },
    ),
    "gemma3": (
        "gemma3_text",
        {
            "head_dim": 16,
            "tie_word_embeddings": True,
            "sliding_window": 4,
            "query_pre_attn_scalar": 24,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "gemma3, linear": (
        "gemma3_text",
        {
            "head_dim": 12,
            "sliding_window": 3,
            "final_logit_softcapping": 4.0,
            "attention_bias": True,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 50000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
            },
        },
    ),
    "gemma3, six layers": ("gemma3_text", {"head_dim": 8, "sliding_window": 5, "num_hidden_layers": 7}),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 2}),
    "smollm3, no_rope_layers": ("smollm3", {"no_rope_layers": [0, 1, 0], "tie_word_embeddings": True}),
    "smollm3, windows": ("smollm3", {"no_rope_layers": [1, 0, 1], "use_sliding_window": True, "sliding_window": 4}),
    "granite": ("granite", GRANITE),
    "granite, biases": ("granite", {**GRANITE, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "phi3": ("phi3", {}),
    "phi3, window": ("phi3", {"sliding_window": 6, "tie_word_embeddings": True}),
    "phi3, a part of each head": (
        "phi3",
        {"num_key_value_heads": 4, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
    ),
    "phi3, longrope": (
        "phi3",
        {
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "rope_parameters": LONGROPE,
            "original_max_position_embeddings": 30,
        },
    ),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False}),
    "lfm2, biases": (
        "lfm2",
        {
            "full_attn_idxs": [0, 2],
            "conv_bias": True,
            "conv_L_cache": 4,
            "block_ff_dim": 100,
            "block_multiple_of": 16,
            "tie_word_embeddings": True,
        },
    ),
    "lfm2, attention only": ("lfm2", {"head_dim": 8, "block_auto_adjust_ff_dim": False}),
    "exaone4": ("exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 3}),
    "exaone4, windows": (
        "exaone4",
        {
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": LLAMA3,
        },
    ),
    "starcoder2": ("starcoder2", {"tie_word_embeddings": True}),
    "starcoder2, window": ("starcoder2", {"sliding_window": 5, "use_bias": False}),
    "stablelm": ("stablelm", {"hidden_size": 64, "use_qkv_bias": True}),
    "stablelm, side by side": ("stablelm", {"hidden_size": 64, "use_parallel_residual": True}),
    "gpt_neox": ("gpt_neox", {"hidden_size": 64, "num_key_value_heads": None}),
    "gpt_neox, in turn": (
        "gpt_neox",
        {
            "num_key_value_heads": None,
            "use_parallel_residual": False,
            "attention_bias": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5},
            "tie_word_embeddings": True,
        },
    ),
    "phi": ("phi", {"num_key_value_heads": 4}),
    "phi, shared keys": ("phi", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 1.0}}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", {"sliding_window": 4}),
    "olmo3, layer_types": (
        "olmo3",
        {
            "sliding_window": 4,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": YARN,
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    ),
    "olmo2, all heads alike": ("olmo2", {"num_key_value_heads": 4, "attention_bias": True}),
}


def made(folder: Path, model_type: str, changed: dict[str, Any], head: str = "CausalLM", seed: int = 0) -> Any:
    """A tiny model of Transformers' own class with lively weights, saved as a folder with a tokenizer. Returns the class's
    instance.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    common = {
        "vocab_size": 3 + len(tiny_models.WORDS),
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
    }
    config = CONFIG_MAPPING[model_type](**{**common, **changed})
    torch.manual_seed(seed)
    kind = {
        "CausalLM": transformers.AutoModelForCausalLM,
        "SequenceClassification": transformers.AutoModelForSequenceClassification,
        "TokenClassification": transformers.AutoModelForTokenClassification,
        "QuestionAnswering": transformers.AutoModelForQuestionAnswering,
        "Model": transformers.AutoModel,
    }[head]
    net = kind.from_config(config).eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            # norms away from 1, biases away from 0, embeddings large enough that layers matter
            weight.copy_(0.15 * torch.randn_like(weight) + (1.0 if "norm" in name else 0.0))
    net.save_pretrained(folder)
    tiny_models.word_level(folder, common["vocab_size"])
    return net


def sequences(lengths: tuple[int, ...] = (1, 7, 40, 2)) -> list[list[int]]:
    """Ragged token ids."""
    return [np.random.default_rng(n).integers(3, 3 + len(tiny_models.WORDS), n).tolist() for n in lengths]


def texts() -> list[str]:
    """To calibrate on."""
    return [" ".join(np.random.default_rng(i).choice(tiny_models.WORDS, 5 + i % 9).tolist()) for i in range(40)]


def logits(net: Any, ids: list[int]) -> np.ndarray:
    """[T, V] of one sequence, or [labels] of a classifier."""
    import torch

    with torch.no_grad():
        found: np.ndarray = net(torch.tensor([ids])).logits[0].numpy()
    return found


def hidden(net: Any, ids: list[int]) -> np.ndarray:
    """[T, H] of one sequence, behind the last norm."""
    import torch

    with torch.no_grad():
        found: np.ndarray = net.base_model(torch.tensor([ids])).last_hidden_state[0].numpy()
    return found


def greedy(net: Any, ids: list[int], count: int) -> list[int]:
    """The next `count` tokens by Transformers' own generate."""
    import torch

    # -1: no token ends it
    out = net.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=-1,
        pad_token_id=0,
    )
    tokens: list[int] = out[0, len(ids) :].tolist()
    return tokens
