"""What configs of decoders may not say, and what follows from what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aerogel.architectures import FAMILIES, Config
from aerogel.architectures.rope import of_layers
from aerogel.architectures.windows import windows
from aerogel.errors import ConfigError, UnsupportedModelError

from .. import tiny_models


def details(model_type: str, **changed: Any) -> Any:
    config = {**tiny_models.LLAMA, "num_hidden_layers": 4, "model_type": model_type, **changed}
    return FAMILIES[model_type](config, ["lm_head.weight"], None).details


FULL, SLIDING = "full_attention", "sliding_attention"


@pytest.mark.parametrize(
    ("model_type", "changed", "expected"),
    [
        ("llama", {}, [None] * 4),
        ("llama", {"sliding_window": 8, "use_sliding_window": False}, [None] * 4),
        ("mistral", {"sliding_window": 8}, [7] * 4),
        ("mistral", {"sliding_window": None}, [None] * 4),
        ("mistral", {}, [4095] * 4),
        ("mistral", {"sliding_window": None, "layer_types": [FULL] * 4}, [None] * 4),
        ("ministral", {"sliding_window": 8, "layer_types": [FULL, SLIDING] * 2}, [None, 7, None, 7]),
        ("qwen2", {"sliding_window": 8, "max_window_layers": 1}, [None] * 4),
        ("qwen2", {"sliding_window": 8, "max_window_layers": 3, "use_sliding_window": True}, [None] * 3 + [7]),
        ("qwen3", {"sliding_window": 8, "max_window_layers": 0, "use_sliding_window": True}, [7] * 4),
        ("qwen3", {"sliding_window": None, "use_sliding_window": True}, [None] * 4),
        ("smollm3", {"sliding_window": 8, "use_sliding_window": True}, [None] * 3 + [7]),
        ("smollm3", {"sliding_window": 8}, [None] * 4),
        ("phi3", {}, [None] * 4),
        ("phi3", {"sliding_window": 3}, [2] * 4),
        ("gemma", {}, [None] * 4),
        ("gemma2", {"sliding_window": 8}, [7, None, 7, None]),
        ("gemma3_text", {"sliding_window": 8, "sliding_window_pattern": 2}, [7, None, 7, None]),
        ("gemma3_text", {"sliding_window": 8, "layer_types": [FULL] + [SLIDING] * 3}, [None, 7, 7, 7]),
        ("gemma3_text", {"sliding_window": 8, "use_bidirectional_attention": True}, [4] * 4),
        ("gemma3_text", {"sliding_window": None}, [None] * 4),
        ("olmo3", {"sliding_window": 3}, [2, 2, 2, None]),
        ("exaone4", {"sliding_window": 3}, [2, 2, 2, None]),
        ("exaone4", {"sliding_window": 3, "sliding_window_pattern": 2}, [2, None, 2, None]),
        ("exaone4", {"sliding_window": None}, [None] * 4),
        ("starcoder2", {"sliding_window": 3}, [2] * 4),
    ],
)
def test_windows(model_type: str, changed: dict[str, Any], expected: list[int | None]) -> None:
    assert list(details(model_type, **changed).windows) == expected


def test_a_window_of_one_token_is_the_token_itself() -> None:
    assert windows(Config({"sliding_window": 1}), 2, [True, False]) == (0, None)


@pytest.mark.parametrize(
    ("model_type", "changed", "message"),
    [
        ("llama", {"sliding_window": 8}, "sliding_window: 8"),
        ("granite", {"layer_types": [FULL, SLIDING] * 2}, "layer_types"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 4}, "layer_types: chunked_attention"),
        ("mistral", {"sliding_window": 8, "layer_types": [FULL, SLIDING] * 2}, "ministral has both"),
        ("phi3", {"rope_scaling": {"type": "axial"}}, "type 'axial'"),
        ("gpt_neox", {"head_dim": 8}, "num_key_value_heads: 2: in this family no heads share keys and values"),
        ("phi", {"sliding_window": 8}, "sliding_window: 8"),
    ],
)
def test_what_is_not_computed(model_type: str, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        details(model_type, **changed)


@pytest.mark.parametrize(
    ("model_type", "changed", "message"),
    [
        ("qwen3", {"layer_types": [FULL]}, "layer_types: expected one word for each of 4 layers, got 1"),
        ("qwen3", {"layer_types": [1, 2, 3, 4]}, "layer_types: expected a list of words"),
        ("mistral", {"sliding_window": 0}, "sliding_window: expected at least 1"),
        ("smollm3", {"no_rope_layers": [1, 0, 1]}, "no_rope_layers: expected 0 or 1 for each of 4 layers"),
        ("smollm3", {"no_rope_layers": [1, 0, 1, 2]}, "no_rope_layers: expected 0 or 1 for each of 4 layers"),
        ("smollm3", {"no_rope_layers": "0101"}, "no_rope_layers: expected 0 or 1"),
        ("granite", {"logits_scaling": 0}, "logits_scaling: expected a positive number"),
        ("granite", {"residual_multiplier": 1e200}, "residual_multiplier: expected a positive number"),
        ("granite", {"attention_multiplier": "x"}, "attention_multiplier: expected a number"),
        ("phi3", {"partial_rotary_factor": 0.1}, "partial_rotary_factor: expected a part of 8 columns"),
        (
            "exaone4",
            {"sliding_window": 8, "sliding_window_pattern": "LLLG"},
            "layer_types: expected a word for each layer",
        ),
        ("exaone4", {"sliding_window": 8, "sliding_window_pattern": 0}, "sliding_window_pattern: expected at least 1"),
    ],
)
def test_what_is_broken(model_type: str, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        details(model_type, **changed)


def test_layers_without_rotary_embeddings() -> None:
    turns = [rotary is not None for rotary in details("smollm3").rotaries]
    assert turns == [True, True, True, False]
    turns = [rotary is not None for rotary in details("smollm3", no_rope_layers=[0, 1, 0, 1]).rotaries]
    assert turns == [False, True, False, True]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"sliding_window": 8}, [True, True, True, False]),
        ({"sliding_window": 8, "layer_types": [FULL, SLIDING] * 2}, [False, True, False, True]),
        ({"sliding_window": None}, [True] * 4),
    ],
)
def test_exaones_layers_without_a_window_do_not_turn(changed: dict[str, Any], expected: list[bool]) -> None:
    assert [rotary is not None for rotary in details("exaone4", **changed).rotaries] == expected


@pytest.mark.parametrize(
    ("model_type", "changed", "pairs"),
    [
        ("stablelm", {}, 1),
        ("stablelm", {"partial_rotary_factor": 0.5}, 2),
        ("phi", {}, 2),
        ("phi", {"partial_rotary_factor": 1.0}, 4),
        ("gpt_neox", {"num_key_value_heads": 6}, 1),
        ("gpt_neox", {"num_key_value_heads": 6, "rotary_pct": 1.0}, 4),
    ],
)
def test_a_part_of_each_head_turns(model_type: str, changed: dict[str, Any], pairs: int) -> None:
    assert details(model_type, **changed).rotaries[0].pairs == pairs


@pytest.mark.parametrize("kind", ["su", "yarn", "longrope"])
def test_phi3s_older_names_of_longrope(kind: str) -> None:
    scaling = {"type": kind, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    found = details("phi3", rope_scaling=scaling, original_max_position_embeddings=32).rotaries[0]
    assert found.pairs == 4
    assert found.frequencies(64)[0] == pytest.approx(found.frequencies(16)[0] / 2)


def test_olmo3s_older_configs_stretch_full_attention_only() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 1.5}
    old = details("olmo3", rope_scaling=yarn, rope_theta=5e5).rotaries
    plain = {"rope_type": "default", "rope_theta": 5e5}
    given = {key: value for key, value in tiny_models.LLAMA.items() if key != "rope_theta"}
    config = {**given, "num_hidden_layers": 4, "model_type": "olmo3"}
    config["rope_parameters"] = {FULL: {**yarn, "rope_theta": 5e5}, SLIDING: plain}
    new = FAMILIES["olmo3"](config, ["lm_head.weight"], None).details.rotaries
    for one, two in zip(old, new, strict=True):
        assert list(one.frequencies(9)) == list(two.frequencies(9))
    assert list(old[0].frequencies(9)) != list(old[3].frequencies(9))


def test_phi3s_own_code_is_not_needed() -> None:
    FAMILIES["phi3"].settings.check({"auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}}, "config")
    with pytest.raises(UnsupportedModelError, match="lm_head_bias"):
        FAMILIES["phi3"].settings.check({"lm_head_bias": True}, "config")


def test_rotary_settings_by_the_kind_of_layer() -> None:
    nested = {FULL: {"rope_type": "default", "rope_theta": 5.0}, SLIDING: {"rope_type": "default"}}
    config = Config({"rope_parameters": nested, "rope_theta": 7.0})
    assert of_layers(config, FULL).values == {"rope_parameters": nested[FULL]}
    assert of_layers(config, SLIDING).values == {"rope_parameters": nested[SLIDING], "rope_theta": 7.0}
    flat = Config({"rope_parameters": {"rope_theta": 5.0}})
    assert of_layers(flat, FULL) is flat


def test_gemmas_factors() -> None:
    """Scores by query_pre_attn_scalar, embeddings by the root of their width; a cap that is null is none."""
    found = details("gemma2", query_pre_attn_scalar=64)
    assert (found.attention_scale, found.attention_cap, found.logit_cap) == (0.125, 50.0, 30.0)
    assert found.embedding_scale == tiny_models.LLAMA["hidden_size"] ** 0.5 and found.norm_offset == 1.0
    found = details("gemma2", attn_logit_softcapping=None, final_logit_softcapping=None)
    assert (found.attention_scale, found.attention_cap, found.logit_cap) == (1 / 16, 0.0, 0.0)


@pytest.mark.parametrize(
    "said",
    [
        {"rope_theta": 5000.0, "rope_local_base_freq": 300.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {
            "rope_theta": None,
            "rope_parameters": {
                FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0},
                SLIDING: {"rope_type": "default", "rope_theta": 300.0},
            },
        },
    ],
)
def test_layers_with_a_window_turn_otherwise(said: dict[str, Any]) -> None:
    near, *_, far = details("gemma3_text", sliding_window=8, sliding_window_pattern=4, **said).rotaries
    d = tiny_models.LLAMA.get("head_dim", 256)
    powers = np.arange(d // 2) * 2 / d
    np.testing.assert_allclose(near.frequencies(9), 300.0**-powers, rtol=1e-5)
    np.testing.assert_allclose(far.frequencies(9), 5000.0**-powers / 8, rtol=1e-5)
