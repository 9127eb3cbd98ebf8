"""BERT in float64, sentence by sentence."""

from __future__ import annotations

import math

import numpy as np

ACTIVATIONS = {
    "gelu": lambda x: x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_new": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(w, name, x, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    return scaled * w[name + ".weight"] + w[name + ".bias"]


def linear(w, name, x):
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def hidden(config, weights, ids, types=None):
    """float64 [T, H] of one sequence."""
    w = {name: np.asarray(array, np.float64) for name, array in weights.items()}
    eps = config["layer_norm_eps"]
    d = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    act = ACTIVATIONS[config["hidden_act"]]
    types = np.zeros(len(ids), int) if types is None else types
    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][np.arange(len(ids))]
    x = x + w["embeddings.token_type_embeddings.weight"][types]
    x = layer_norm(w, "embeddings.LayerNorm", x, eps)
    for i in range(config["num_hidden_layers"]):
        t = f"encoder.layer.{i}."
        heads = config.get("attention_heads", [config["num_attention_heads"]] * (i + 1))[i]
        mixed = np.empty((len(ids), heads * d))
        for h in range(heads):
            at = slice(h * d, (h + 1) * d)
            q, k, v = (linear(w, t + f"attention.self.{n}", x)[:, at] for n in ("query", "key", "value"))
            mixed[:, at] = softmax(q @ k.T / math.sqrt(d)) @ v
        a = linear(w, t + "attention.output.dense", mixed) if heads else w[t + "attention.output.dense.bias"]
        x = layer_norm(w, t + "attention.output.LayerNorm", x + a, eps)
        if config.get("intermediate_sizes", [1] * (i + 1))[i]:
            f = linear(w, t + "output.dense", act(linear(w, t + "intermediate.dense", x)))
        else:
            f = w[t + "output.dense.bias"]
        x = layer_norm(w, t + "output.LayerNorm", x + f, eps)
    return x


def scores(config, weights, ids, types=None):
    """float64 [labels] of one sequence."""
    w = {name: np.asarray(array, np.float64) for name, array in weights.items()}
    first = hidden(config, weights, ids, types)[0]
    return linear(w, "classifier", np.tanh(linear(w, "pooler.dense", first)))


def masked_logits(config, weights, ids):
    """float64 [T, V] of one sequence, decoder tied to the embeddings."""
    w = {name: np.asarray(array, np.float64) for name, array in weights.items()}
    x = linear(w, "cls.predictions.transform.dense", hidden(config, weights, ids))
    x = layer_norm(
        w, "cls.predictions.transform.LayerNorm", ACTIVATIONS[config["hidden_act"]](x), config["layer_norm_eps"]
    )
    return x @ w["embeddings.word_embeddings.weight"].T + w["cls.predictions.bias"]
