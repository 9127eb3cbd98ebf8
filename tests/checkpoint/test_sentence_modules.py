"""Poolings, and what sentence-transformers puts after them, against NumPy: as it is, packed, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel.architectures import Dense, Norm, Normalize, Pooling
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import AerogelError, ConfigError, MissingTensorsError, UnsupportedModelError

from .. import tiny_models

TEXTS = ["the cat sat on the mat", "a dog", "", "red tree under small mat and blue cat"]
H = tiny_models.BERT["hidden_size"]


def folder_with(folder: Path, pooling: dict[str, Any], *after: str, **settings: Any) -> Path:
    """A BERT with a pooling and modules "Dense:16:Tanh", "LayerNorm", "Normalize" after it."""
    config = tiny_models.BERT
    tiny_models.write(folder, config, tiny_models.bert_weights(config))
    random = np.random.default_rng(3)
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": H, **pooling}))
    width = H * max(1, sum(value is True for value in pooling.values()))
    for i, module in enumerate(after, 2):
        kind, *arguments = module.split(":")
        place = folder / f"{i}_{kind}"
        place.mkdir()
        modules.append((kind, place.name))
        if kind == "Dense":
            out = int(arguments[0])
            said = {"in_features": width, "out_features": out, "bias": True}
            said["activation_function"] = f"torch.nn.modules.activation.{arguments[1]}"
            weights = {
                "linear.weight": random.standard_normal((out, width)) / 4,
                "linear.bias": random.standard_normal(out),
            }
            width = out
        else:
            said = {"dimension": width} if kind == "LayerNorm" else {}
            weights = {"norm.weight": random.standard_normal(width), "norm.bias": random.standard_normal(width)}
        (place / "config.json").write_text(json.dumps({**said, **settings.get(kind, {})}))
        if kind in ("Dense", "LayerNorm"):
            save_file({k: v.astype(np.float32) for k, v in weights.items()}, place / "model.safetensors")
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def hidden_states(model: aerogel.Model, text: str) -> np.ndarray:
    return model.forward(model.tokenizer.encode([text])[0], output="hidden")


def pooled(x: np.ndarray, mode: str) -> np.ndarray:
    n = len(x)
    weights = np.arange(1, n + 1)[:, None]
    return {
        "mean": x.mean(0),
        "cls": x[0],
        "max": x.max(0),
        "last": x[-1],
        "mean_sqrt_len": x.sum(0) / np.sqrt(n),
        "weightedmean": (x * weights).sum(0) / weights.sum(),
    }[mode]


@pytest.mark.parametrize(
    ("said", "modes"),
    [
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ("mean_sqrt_len",)),
        ({"pooling_mode_weightedmean_tokens": True}, ("weightedmean",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode": ["mean", "cls", "lasttoken"]}, ("mean", "cls", "last")),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, ("mean_sqrt_len",)),
        ({}, ("mean",)),
    ],
)
def test_poolings(tmp_path: Path, said: dict[str, Any], modes: tuple[str, ...]) -> None:
    folder = folder_with(tmp_path / "m", said)
    model = aerogel.load(folder)
    assert open_checkpoint(folder).pooling == Pooling(modes, False)
    expected = [np.concatenate([pooled(hidden_states(model, text), mode) for mode in modes]) for text in TEXTS]
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=2e-5)
    assert model.embedding_size == H * len(modes) and model.hidden_size == H
    out = tmp_path / "plain"
    aerogel.export(folder, out)
    assert open_checkpoint(out).pooling == Pooling(modes, False)
    np.testing.assert_allclose(aerogel.load(out).encode(TEXTS), expected, atol=2e-5)


def test_modules_after_the_pooling(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path / "m", {"pooling_mode_mean_tokens": True}, "Dense:16:Tanh", "LayerNorm", "Dropout", "Normalize"
    )
    checkpoint = open_checkpoint(folder)
    steps = (Dense("sentence.0", H, 16, True, "tanh"), Norm("sentence.1", 16))
    assert checkpoint.pooling == Pooling(("mean",), True, steps)
    dense, norm = (load_file(folder / path / "model.safetensors") for path in ("2_Dense", "3_LayerNorm"))
    model = aerogel.load(folder)
    expected = []
    for text in TEXTS:
        x = np.tanh(dense["linear.weight"] @ hidden_states(model, text).mean(0) + dense["linear.bias"])
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * norm["norm.weight"] + norm["norm.bias"]
        expected.append(x)
    np.testing.assert_allclose(model.encode(TEXTS, normalize=False), expected, atol=1e-4)
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode(TEXTS), expected / lengths, atol=1e-4)
    assert model.embedding_size == 16 and model.encode([]).shape == (0, 16)

    packed, plain = tmp_path / "packed", tmp_path / "plain"
    aerogel.compress(folder, packed, sparsity=0.0)
    kept = open_checkpoint(packed)
    assert kept.pooling == checkpoint.pooling and kept.weight("sentence.0.weight").scale is not None
    cosine = (aerogel.load(packed).encode(TEXTS) * model.encode(TEXTS)).sum(1)
    assert cosine.min() > 0.99
    aerogel.export(packed, plain)
    assert load_file(plain / "2_Dense" / "model.safetensors").keys() == {"linear.weight", "linear.bias"}
    assert not any(name.startswith("sentence") for name in load_file(plain / "model.safetensors"))
    cosine = (aerogel.load(plain).encode(TEXTS) * aerogel.load(packed).encode(TEXTS)).sum(1)
    assert cosine.min() > 0.99  # activations are not int8 here


def test_two_poolings_into_a_linear(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path / "m",
        {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True},
        "Normalize",
        "Dense:8:Identity",
    )
    model, dense = aerogel.load(folder), load_file(folder / "3_Dense" / "model.safetensors")
    assert open_checkpoint(folder).pooling.steps == (Normalize(), Dense("sentence.0", 2 * H, 8, True, None))
    x = np.concatenate([pooled(hidden_states(model, TEXTS[0]), mode) for mode in ("max", "mean")])
    expected = dense["linear.weight"] @ (x / np.linalg.norm(x)) + dense["linear.bias"]
    np.testing.assert_allclose(model.encode(TEXTS[0]), expected, atol=2e-5)


def test_only_the_first_numbers(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m", {"pooling_mode_mean_tokens": True}, "Normalize")
    whole = aerogel.load(folder).encode(TEXTS)
    (folder / "config_sentence_transformers.json").write_text('{"truncate_dim": 8}')
    model = aerogel.load(folder)
    np.testing.assert_array_equal(model.encode(TEXTS), whole[:, :8])  # not of length 1, as sentence-transformers'
    again = whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode(TEXTS, normalize=True), again, rtol=1e-6)
    assert model.embedding_size == 8


def test_narrower_hidden_states_keep_the_linear(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m", {"pooling_mode_mean_tokens": True}, "Dense:16:Tanh")
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS * 3))
    recipe = {"structure": {"hidden": 0.5}, "calibration": {"files": [str(texts)]}}
    aerogel.compress(folder, tmp_path / "small", sparsity=0.0, recipe=recipe)
    small = open_checkpoint(tmp_path / "small")
    assert small.shape("sentence.0.weight") == (16, H // 2) and small.pooling.steps[0].inputs == H // 2
    assert aerogel.load(tmp_path / "small").encode(TEXTS).shape == (len(TEXTS), 16)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"Dense": {"use_residual": True}}, UnsupportedModelError, "use_residual"),
        ({"Dense": {"module_input_name": "token_embeddings"}}, UnsupportedModelError, "module_input_name"),
        ({"Dense": {"activation_function": "mine.Swoosh"}}, UnsupportedModelError, "activation_function"),
        (
            {"Dense": {"activation_function": "torch.nn.modules.activation.GLU"}},
            UnsupportedModelError,
            "activation_function",
        ),
        ({"Dense": {"in_features": "48"}}, ConfigError, "in_features"),
        ({"Dense": {"bias": 1}}, ConfigError, "bias"),
        ({"Dense": {"out_features": 17}}, AerogelError, "17"),
        ({"Dense": {"scale": 2.0}}, UnsupportedModelError, "scale"),
        ({"Normalize": {"p": 1}}, UnsupportedModelError, "p"),
    ],
)
def test_what_a_module_says_is_read_or_refused(
    tmp_path: Path, settings: dict[str, Any], error: Any, message: str
) -> None:
    folder = folder_with(tmp_path / "m", {"pooling_mode_mean_tokens": True}, "Dense:16:Tanh", "Normalize", **settings)
    with pytest.raises(error, match=message):
        aerogel.load(folder)


def test_tensors_of_a_module(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m", {"pooling_mode_mean_tokens": True}, "Dense:16:Tanh")
    file = folder / "2_Dense" / "model.safetensors"
    weights = load_file(file)
    save_file({"linear.weight": weights["linear.weight"]}, file)
    with pytest.raises(MissingTensorsError, match=r"linear\.bias"):
        aerogel.load(folder)
    save_file({**weights, "residual.weight": weights["linear.weight"]}, file)
    with pytest.raises(UnsupportedModelError, match=r"residual\.weight"):
        aerogel.load(folder)
    file.unlink()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(AerogelError, match="pickle"):
        aerogel.load(folder)
