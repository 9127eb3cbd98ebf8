"""Encoders with other positions than BERT's: MPNet's buckets, ModernBERT's, GTE's and NomicBERT's rotations, Jina's slopes.

Against Transformers where it has the family, else against a reference in plain PyTorch (`alibi`, and NTK scaling).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel.errors import AerogelError, ConfigError, RecipeError, UnsupportedModelError

from . import peers
from .test_encoders import HEADS, LABELS, TEXTS, labelled

MODERN = {**peers.SIZES, "num_hidden_layers": 4, "local_attention": 8, "pad_token_id": 0, "classifier_pooling": "mean"}
ROPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 80000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
}
BIASES = dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True)
#: Prefix of the classes -> the configs that models in the wild have.
FAMILIES: dict[str, list[dict[str, Any]]] = {
    "MPNet": [{**peers.SIZES, "max_position_embeddings": 300, "layer_norm_eps": 1e-5}],
    "ModernBert": [
        MODERN,
        {
            **MODERN,
            **BIASES,
            "rope_parameters": ROPE,
            "layer_types": ["full_attention", "sliding_attention"] * 2,
            "classifier_pooling": "cls",
            "decoder_bias": False,
            "hidden_activation": "silu",
        },
    ],
    "Gte": [{**peers.SIZES, "pad_token_id": 0}, {**peers.SIZES, "pad_token_id": 0, "type_vocab_size": 0}],
    "NomicBert": [{**peers.SIZES}, {**peers.SIZES, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}],
}
LACKING = {("Gte", "ForQuestionAnswering"), ("NomicBert", "ForQuestionAnswering")}
CASES = [(family, config) for family, configs in FAMILIES.items() for config in configs]


@pytest.mark.parametrize(("family", "config"), CASES, ids=[f"{family}{i}" for i, (family, _) in enumerate(CASES)])
def test_every_head_is_as_in_transformers(tmp_path: Path, family: str, config: dict[str, Any]) -> None:
    for head, (ours, theirs) in HEADS.items():
        if (family, head) in LACKING:
            continue
        net = peers.save(tmp_path / head, family + head, **config, **labelled(head))
        expected = peers.outputs(net)
        model = aerogel.load(tmp_path / head)
        np.testing.assert_allclose(model.forward(peers.SEQUENCES, output="hidden"), expected["hidden"], atol=1e-4)
        np.testing.assert_allclose(model.forward(peers.SEQUENCES, output=ours), expected[theirs], atol=1e-4)
        assert ("embedding" in model.outputs) == (head == "Model")
        assert model.labels == (["no", "so so", "yes"] if "Classification" in head else [])


def test_distances_beyond_the_last_bucket(tmp_path: Path) -> None:
    net = peers.save(tmp_path, "MPNetModel", **FAMILIES["MPNet"][0])
    long = [[5 + i % 50 for i in range(290)]]
    expected = peers.outputs(net, long)["hidden"]
    np.testing.assert_allclose(aerogel.load(tmp_path).forward(long), expected, atol=1e-4)
