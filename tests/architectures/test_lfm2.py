"""LFM2: what its configs say, and texts whose convolutions go on where a slot was left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.architectures import FAMILIES
from aerogel.architectures.lfm2 import Lfm2
from aerogel.errors import ConfigError, UnsupportedModelError

from .. import tiny_models

CONV, FULL = "conv", "full_attention"


def family(**changed: Any) -> Any:
    config = {**tiny_models.LLAMA, "num_hidden_layers": 4, "model_type": "lfm2", "norm_eps": 1e-5, **changed}
    return FAMILIES["lfm2"]({key: value for key, value in config.items() if value is not None}, [], None)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, [FULL] * 4),
        ({"full_attn_idxs": [2]}, [CONV, CONV, FULL, CONV]),
        ({"full_attn_idxs": [2], "layer_types": [FULL, CONV] * 2}, [FULL, CONV] * 2),
    ],
)
def test_layers(changed: dict[str, Any], expected: list[str]) -> None:
    found = family(**changed)
    assert found.kinds == expected
    assert found.heads == tuple(6 * (kind == FULL) for kind in expected)
    assert found.kv_heads == tuple(2 * (kind == FULL) for kind in expected)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"intermediate_size": 12288}, 8192),
        ({"block_ff_dim": 6656}, 4608),
        ({"intermediate_size": 100, "block_auto_adjust_ff_dim": False}, 100),
        ({"intermediate_size": 100, "block_multiple_of": 8, "block_ffn_dim_multiplier": 1.3}, 88),
        ({"intermediate_sizes": [5, 100, 0, 7]}, [5, 100, 0, 7]),
    ],
)
def test_widths_of_the_feed_forward_blocks(changed: dict[str, Any], expected: int | list[int]) -> None:
    assert list(family(**changed).ffn) == (expected if isinstance(expected, list) else [expected] * 4)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"layer_types": [CONV, "sliding_attention"] * 2}, UnsupportedModelError, "layer_types: sliding_attention"),
        ({"layer_types": [FULL]}, ConfigError, "expected one word for each of 4 layers, got 1"),
        ({"layer_types": FULL}, ConfigError, "layer_types: expected a list of words"),
        ({"full_attn_idxs": [True]}, ConfigError, "full_attn_idxs: expected a list of whole numbers"),
        ({"full_attn_idxs": []}, ConfigError, "at least one layer with heads"),
        ({"conv_L_cache": 0}, ConfigError, "conv_L_cache: expected at least 1"),
    ],
)
def test_what_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        family(**changed)
    with pytest.raises(UnsupportedModelError, match="is_causal"):
        Lfm2.settings.check({"is_causal": False}, "config")


def test_experts_are_refused_by_name(tmp_path: Path) -> None:
    config = {**tiny_models.LLAMA, "model_type": "lfm2_moe"}
    folder = tiny_models.write(tmp_path / "m", config, tiny_models.llama_weights(config), prefix="model.")
    with pytest.raises(UnsupportedModelError, match="model_type 'lfm2_moe' is not supported"):
        aerogel.load(folder)


def weights_of(architecture: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        t.name: (0.2 * rng.standard_normal(t.shape) + ("norm" in t.name)).astype(np.float32)
        for t in architecture.tensors()
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of this engine's own names, in_proj in parts."""
    changed = {"layer_types": [CONV, FULL, CONV, CONV], "block_auto_adjust_ff_dim": False, "num_hidden_layers": 4}
    config = {**tiny_models.LLAMA, **changed, "model_type": "lfm2", "architectures": ["Lfm2ForCausalLM"]}
    config["max_position_embeddings"] = 1500
    folder = tmp_path_factory.mktemp("lfm2") / "m"
    tiny_models.write(folder, config, weights_of(FAMILIES["lfm2"](config, [], None)), prefix="model.")
    return aerogel.load(folder)


def test_prompts_in_pieces_and_guesses_change_nothing(model: Any) -> None:
    # longer than a step is, beside a short one
    prompts = [
        np.random.default_rng(i).integers(3, 3 + len(tiny_models.WORDS), n).tolist() for i, n in enumerate((600, 5))
    ]
    for prompt in prompts:
        tokens = list(model.generate_tokens(prompt, 4, stop=()))
        ids = list(prompt)
        for token in tokens:
            logits = model.forward([ids], last_only=True)[0]
            assert token == int(logits.argmax())
            ids.append(token)
        plain = model.complete(prompt, max_new_tokens=16, stop_ids=[], logprobs=1)
        guessed = model.complete(prompt, max_new_tokens=16, stop_ids=[], logprobs=1, lookup=5)
        assert guessed.token_ids == plain.token_ids
        for a, b in zip(guessed.logprobs, plain.logprobs, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)


TEMPLATE = "{% for m in messages %}{{ m.content }} on {% endfor %}"


def test_a_conversation_goes_on_where_it_was_left(model: Any) -> None:
    """Its slot is cut back to what the next prompt begins with, convolutions and all."""
    said: list[dict[str, str]] = []
    with model.conversation(max_new_tokens=6, template=TEMPLATE) as talk:
        for question in ("the cat sat", "the dog", "red mat on the tree"):
            answer = talk.say(question)
            said.append({"role": "user", "content": question})
            assert answer == model.chat(said, 6, template=TEMPLATE)
            said.append({"role": "assistant", "content": answer})
