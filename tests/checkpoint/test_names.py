from __future__ import annotations

import pytest

from aerogel.checkpoint.names import is_buffer, normalize, normalize_all
from aerogel.errors import CheckpointError

CASES = {
    "bert.encoder.layer.0.output.dense.weight": "encoder.layer.0.output.dense.weight",
    "bert.embeddings.LayerNorm.gamma": "embeddings.LayerNorm.weight",
    "bert.embeddings.LayerNorm.beta": "embeddings.LayerNorm.bias",
    "cls.predictions.transform.LayerNorm.gamma": "cls.predictions.transform.LayerNorm.weight",
    "bert.pooler.dense.weight": "pooler.dense.weight",
    "roberta.encoder.layer.3.output.dense.bias": "encoder.layer.3.output.dense.bias",
    "mpnet.encoder.relative_attention_bias.weight": "encoder.relative_attention_bias.weight",
    "model.layers.0.self_attn.q_proj.weight": "layers.0.self_attn.q_proj.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "lm_head.weight",
    "lm_head.layer_norm.weight": "lm_head.layer_norm.weight",
    "classifier.dense.weight": "classifier.dense.weight",
    "encoder.layer.0.output.dense.weight": "encoder.layer.0.output.dense.weight",
}


@pytest.mark.parametrize(("stored", "name"), CASES.items())
def test_normalize(stored: str, name: str) -> None:
    assert normalize(stored) == name
    assert normalize(name) == name


def test_buffers_are_left_out() -> None:
    stored = ["bert.embeddings.position_ids", "embeddings.position_ids", "model.layers.0.self_attn.rotary_emb.inv_freq"]
    assert all(map(is_buffer, stored))
    assert normalize_all([*stored, "bert.x.weight"], "f") == {"x.weight": "bert.x.weight"}
    assert not is_buffer("embeddings.position_embeddings.weight")


def test_two_names_for_one_parameter() -> None:
    with pytest.raises(CheckpointError, match=r"f: 'x.weight' and 'bert.x.weight' are both the parameter 'x.weight'"):
        normalize_all(["x.weight", "bert.x.weight"], "f")
