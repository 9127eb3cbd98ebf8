"""Units taken out of a model, tensor by tensor."""

from __future__ import annotations

import numpy as np

BERT = {
    "attention": [
        ("attention.self.query.weight", 0),
        ("attention.self.query.bias", 0),
        ("attention.self.key.weight", 0),
        ("attention.self.key.bias", 0),
        ("attention.self.value.weight", 0),
        ("attention.self.value.bias", 0),
        ("attention.output.dense.weight", 1),
    ],
    "ffn": [("intermediate.dense.weight", 0), ("intermediate.dense.bias", 0), ("output.dense.weight", 1)],
}
LLAMA = {
    "queries": [("self_attn.q_proj.weight", 0), ("self_attn.q_proj.bias", 0), ("self_attn.o_proj.weight", 1)],
    "keys": [
        ("self_attn.k_proj.weight", 0),
        ("self_attn.k_proj.bias", 0),
        ("self_attn.v_proj.weight", 0),
        ("self_attn.v_proj.bias", 0),
    ],
    "ffn": [
        ("mlp.gate_proj.weight", 0),
        ("mlp.gate_proj.bias", 0),
        ("mlp.up_proj.weight", 0),
        ("mlp.up_proj.bias", 0),
        ("mlp.down_proj.weight", 1),
    ],
}


def columns(units, size):
    """The columns of units of `size` columns each."""
    return [unit * size + i for unit in units for i in range(size)]


def cut(weights, prefix, tensors, entries):
    """A copy of the weights in which the tensors of a layer have only some entries; one with none of them is gone."""
    result = dict(weights)
    for name, axis in tensors:
        if prefix + name in weights:
            if len(entries):
                result[prefix + name] = np.take(result[prefix + name], entries, axis=axis)
            else:
                del result[prefix + name]
    return result


def zero(weights, name, entries):
    """A copy of the weights in which some columns of a matrix are 0."""
    result = dict(weights)
    result[name] = result[name].copy()
    result[name][:, entries] = 0
    return result


def cut_hidden(weights, kept):
    """Every tensor with only some hidden channels: those that make them, change them or read them."""
    result = {}
    for name, array in weights.items():
        reads = (
            "embeddings.weight",
            "embed_tokens.weight",
            "lm_head.weight",
            "query.weight",
            "key.weight",
            "value.weight",
            "intermediate.dense.weight",
            "q_proj.weight",
            "k_proj.weight",
            "v_proj.weight",
            "gate_proj.weight",
            "up_proj.weight",
            "classifier.weight",
            "pooler.dense.weight",
            "transform.dense.weight",
        )
        makes = (
            "output.dense.weight",
            "output.dense.bias",
            "o_proj.weight",
            "o_proj.bias",
            "down_proj.weight",
            "down_proj.bias",
            "pooler.dense.weight",
            "pooler.dense.bias",
            "transform.dense.weight",
            "transform.dense.bias",
        )
        if name.endswith(reads):
            array = array[:, kept]
        if name.endswith(makes) or "norm" in name.lower():
            array = array[kept]
        result[name] = np.ascontiguousarray(array)
    return result
