"""Llama and Qwen2 in float64, sentence by sentence."""

from __future__ import annotations

import math

import numpy as np

from .bert import softmax


def rms_norm(x, gamma, eps):
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * gamma


def frequencies(config, d):
    """Radians per position for each pair of columns, with linear and llama3 scaling."""
    theta = config.get("rope_theta", 10000.0)
    result = []
    scaling = config.get("rope_scaling") or {}
    for i in range(d // 2):
        f = theta ** (-2 * i / d)
        kind = scaling.get("rope_type", "default")
        if kind == "linear":
            f /= scaling["factor"]
        elif kind == "llama3":
            turns = scaling["original_max_position_embeddings"] * f / (2 * math.pi)
            if turns < scaling["low_freq_factor"]:
                f /= scaling["factor"]
            elif turns <= scaling["high_freq_factor"]:
                smooth = (turns - scaling["low_freq_factor"]) / (
                    scaling["high_freq_factor"] - scaling["low_freq_factor"]
                )
                f = (1 - smooth) * f / scaling["factor"] + smooth * f
        result.append(f)
    return np.array(result)


def rotate(x, angles):
    """x [T, d] with angles [T, d/2]: column i turns with column i + d/2."""
    a, b = np.split(x, 2, axis=1)
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], axis=1)


def hidden(config, weights, ids):
    """float64 [T, H] of one sequence, after the last norm."""
    w = {name: np.asarray(array, np.float64) for name, array in weights.items()}
    d = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    eps = config["rms_norm_eps"]

    def linear(name, x):
        y = x @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    T = len(ids)
    angles = np.arange(T)[:, None] * frequencies(config, d)
    visible = np.tril(np.ones((T, T), bool))
    x = w["embed_tokens.weight"][ids]
    for i in range(config["num_hidden_layers"]):
        t = f"layers.{i}."
        heads = config.get("attention_heads", [config["num_attention_heads"]] * (i + 1))[i]
        groups = config.get("key_value_heads", [config["num_key_value_heads"]] * (i + 1))[i]
        if heads:
            n = rms_norm(x, w[t + "input_layernorm.weight"], eps)
            q, k, v = (linear(t + f"self_attn.{p}_proj", n) for p in "qkv")
            mixed = np.empty((T, heads * d))
            for h in range(heads):
                g = h // (heads // groups)
                qh = rotate(q[:, h * d : (h + 1) * d], angles)
                kh = rotate(k[:, g * d : (g + 1) * d], angles)
                s = np.where(visible, qh @ kh.T / math.sqrt(d), -np.inf)
                mixed[:, h * d : (h + 1) * d] = softmax(s) @ v[:, g * d : (g + 1) * d]
            x = x + linear(t + "self_attn.o_proj", mixed)
        if config.get("intermediate_sizes", [1] * (i + 1))[i]:
            n = rms_norm(x, w[t + "post_attention_layernorm.weight"], eps)
            gate, up = linear(t + "mlp.gate_proj", n), linear(t + "mlp.up_proj", n)
            x = x + linear(t + "mlp.down_proj", gate / (1 + np.exp(-gate)) * up)
    return rms_norm(x, w["norm.weight"], eps)


def logits(config, weights, ids):
    """float64 [T, V] of one sequence."""
    head = weights.get("lm_head.weight", weights["embed_tokens.weight"])
    return hidden(config, weights, ids) @ np.asarray(head, np.float64).T


def greedy(config, weights, ids, count):
    """The `count` most likely next tokens, one after the other, everything computed anew each time."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(logits(config, weights, ids)[-1].argmax()))
    return ids[len(ids) - count :]
