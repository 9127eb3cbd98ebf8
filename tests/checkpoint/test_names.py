from __future__ import annotations

import pytest

from aerogel.architectures import saved_names
from aerogel.checkpoint.names import is_buffer, normalize, normalize_all, saved_name
from aerogel.errors import CheckpointError, UnsupportedModelError

CASES = {
    "bert": {
        "bert.encoder.layer.0.output.dense.weight": "encoder.layer.0.output.dense.weight",
        "bert.embeddings.LayerNorm.gamma": "embeddings.LayerNorm.weight",
        "bert.embeddings.LayerNorm.beta": "embeddings.LayerNorm.bias",
        "cls.predictions.transform.LayerNorm.gamma": "cls.predictions.transform.LayerNorm.weight",
        "bert.pooler.dense.weight": "pooler.dense.weight",
        "classifier.weight": "classifier.weight",
        "encoder.layer.0.output.dense.weight": "encoder.layer.0.output.dense.weight",
    },
    "llama": {
        "model.layers.0.self_attn.q_proj.weight": "layers.0.self_attn.q_proj.weight",
        "model.norm.weight": "norm.weight",
        "lm_head.weight": "lm_head.weight",
    },
    "unheard-of": {
        "model.layers.0.weight": "layers.0.weight",
        "bert.x.LayerNorm.gamma": "bert.x.LayerNorm.gamma",
    },
}
ALL = [(kind, stored, name) for kind, names in CASES.items() for stored, name in names.items()]


@pytest.mark.parametrize(("kind", "stored", "name"), ALL)
def test_normalize(kind: str, stored: str, name: str) -> None:
    saved = saved_names({"model_type": kind})
    assert normalize(stored, saved) == name
    assert normalize(name, saved) == name


def test_a_base_model_is_saved_without_a_prefix() -> None:
    name = "encoder.layer.0.output.dense.weight"
    config = {"model_type": "bert", "architectures": ["BertModel"]}
    assert saved_name(name, config) == saved_name(name, {"model_type": "bert"}) == name
    assert saved_name(name, {**config, "architectures": ["BertForMaskedLM"]}) == "bert." + name
    assert (
        saved_name("cls.predictions.bias", {**config, "architectures": ["BertForMaskedLM"]}) == "cls.predictions.bias"
    )


@pytest.mark.parametrize("config", [{}, {"model_type": "unheard-of"}, {"model_type": 3}])
def test_a_name_of_no_family(config: dict) -> None:
    with pytest.raises(UnsupportedModelError, match="model_type"):
        saved_name("x.weight", config)


def test_buffers_are_left_out() -> None:
    stored = ["bert.embeddings.position_ids", "embeddings.position_ids", "model.layers.0.self_attn.rotary_emb.inv_freq"]
    assert all(map(is_buffer, stored))
    assert normalize_all([*stored, "bert.x.weight"], {"model_type": "bert"}, "f") == {"x.weight": "bert.x.weight"}
    assert not is_buffer("embeddings.position_embeddings.weight")


def test_two_names_for_one_parameter() -> None:
    with pytest.raises(CheckpointError, match=r"f: 'x.weight' and 'bert.x.weight' are both the parameter 'x.weight'"):
        normalize_all(["x.weight", "bert.x.weight"], {"model_type": "bert"}, "f")
