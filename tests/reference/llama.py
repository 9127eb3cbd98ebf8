"""Llama and the decoders like it in float64, sentence by sentence."""

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

    def norm(name, x):
        """Where there are such weights: of the whole row, or of each head by itself where they are as wide as one."""
        gamma = w.get(name + ".weight")
        if gamma is None:
            return x
        return rms_norm(x.reshape(len(x), -1, len(gamma)), gamma, eps).reshape(x.shape)

    T = len(ids)
    angles = np.arange(T)[:, None] * frequencies(config, d)
    distance = np.arange(T)[:, None] - np.arange(T)
    scale = config.get("attention_multiplier", d**-0.5)
    turns = config.get("no_rope_layers", [1] * config["num_hidden_layers"])
    windows = config.get("windows", [None] * config["num_hidden_layers"])  # the test's own word
    residual = config.get("residual_multiplier", 1.0)
    post = "layers.0.post_feedforward_layernorm.weight" in w  # norms behind the blocks
    x = w["embed_tokens.weight"][ids] * config.get("embedding_multiplier", 1.0)
    for i in range(config["num_hidden_layers"]):
        t = f"layers.{i}."
        heads = config.get("attention_heads", [config["num_attention_heads"]] * (i + 1))[i]
        groups = config.get("key_value_heads", [config["num_key_value_heads"]] * (i + 1))[i]
        if heads:
            n = norm(t + "input_layernorm", x)
            q, k, v = (linear(t + f"self_attn.{p}_proj", n) for p in "qkv")
            q, k = norm(t + "self_attn.q_norm", q), norm(t + "self_attn.k_norm", k)
            visible = (distance >= 0) & (distance <= (T if windows[i] is None else windows[i]))
            mixed = np.empty((T, heads * d))
            for h in range(heads):
                g = h // (heads // groups)
                qh = rotate(q[:, h * d : (h + 1) * d], angles * turns[i])
                kh = rotate(k[:, g * d : (g + 1) * d], angles * turns[i])
                s = np.where(visible, qh @ kh.T * scale, -np.inf)
                mixed[:, h * d : (h + 1) * d] = softmax(s) @ v[:, g * d : (g + 1) * d]
            y = linear(t + "self_attn.o_proj", mixed)
            x = x + residual * (norm(t + "post_attention_layernorm", y) if post else y)
        if config.get("intermediate_sizes", [1] * (i + 1))[i]:
            n = x if post else norm(t + "post_attention_layernorm", x)
            gate, up = linear(t + "mlp.gate_proj", n), linear(t + "mlp.up_proj", n)
            y = linear(t + "mlp.down_proj", gate / (1 + np.exp(-gate)) * up)
            x = x + residual * norm(t + "post_feedforward_layernorm", y)
    return rms_norm(x, w["norm.weight"], eps)


def logits(config, weights, ids):
    """float64 [T, V] of one sequence."""
    head = weights.get("lm_head.weight", weights["embed_tokens.weight"])
    return hidden(config, weights, ids) @ np.asarray(head, np.float64).T / config.get("logits_scaling", 1.0)


def greedy(config, weights, ids, count):
    """The `count` most likely next tokens, one after the other, everything computed anew each time."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(logits(config, weights, ids)[-1].argmax()))
    return ids[len(ids) - count :]
