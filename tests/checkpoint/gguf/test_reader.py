"""GGUF checkpoints: what metadata becomes, whose tensors they are, and that the model is the one in safetensors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as ValueType

import aerogel
from aerogel.architectures import FAMILIES, architecture_of, gguf_names, pooling_of
from aerogel.checkpoint import Pooling, open_checkpoint
from aerogel.checkpoint.gguf import GGUFCheckpoint, detect, read
from aerogel.errors import (
    AerogelError,
    CheckpointError,
    ConfigError,
    DataError,
    MissingTensorsError,
    ShapeError,
    UnsupportedModelError,
)

from ... import tiny_models
from ..tiny_files import interleave
from . import files

ARCHS = tuple(files.CONFIGS)
DECODERS = ("llama", "qwen2")
IDS = [5, 9, 11, 7, 17, 6, 5]


def opened(path: Path, arch: str, **more: Any) -> GGUFCheckpoint:
    checkpoint = open_checkpoint(files.write_model(path / "m.gguf", arch, **more))
    assert isinstance(checkpoint, GGUFCheckpoint)
    return checkpoint


def in_safetensors(folder: Path, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> Path:
    prefix = "" if config["model_type"] == "bert" else "model."
    return tiny_models.write(folder, config, weights, prefix=prefix, tokenizer=False)


def test_the_architectures_are_known() -> None:
    """These stand for the kinds of files; each other one is held against its own safetensors in the tests of its family."""
    assert set(ARCHS) <= set(gguf_names())
    assert {config["model_type"] for config in files.CONFIGS.values()} <= set(FAMILIES)


# -- the same model


def check_same(path: Path, folder: Path, pooled: bool = False) -> None:
    """Every parameter, and every output, bit by bit."""
    a, b = open_checkpoint(path), open_checkpoint(folder)
    names = [tensor.name for tensor in architecture_of(b).tensors()]
    assert set(names) <= set(a.names())
    for name in names:
        assert a.shape(name) == b.shape(name)
        np.testing.assert_array_equal(a.array(name), b.array(name), strict=True)
    model, peer = aerogel.load(path), aerogel.load(folder)
    assert set(model.outputs) >= set(peer.outputs) - {"pooled", "embedding"}
    for output in peer.outputs:
        np.testing.assert_array_equal(model.forward(IDS, output=output), peer.forward(IDS, output=output))
    assert np.abs(model.forward(IDS)).max() > 0.01


@pytest.mark.parametrize("arch", ARCHS)
def test_the_model_is_the_one_in_safetensors(tmp_path: Path, arch: str) -> None:
    config = files.CONFIGS[arch]
    weights = files.weights_of(config)
    check_same(
        files.write_model(tmp_path / "m.gguf", arch, config, weights),
        in_safetensors(tmp_path / "hf", config, weights),
    )


@pytest.mark.parametrize("arch", DECODERS)
@pytest.mark.parametrize(
    "change",
    [
        {"tie_word_embeddings": False},
        {"num_attention_heads": 4, "num_key_value_heads": 4},
        {"num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 6},
        {"num_hidden_layers": 3, "hidden_size": 40, "intermediate_size": 37, "head_dim": 2},
        {"rms_norm_eps": 3e-3, "rope_theta": 777.0},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.5}},
    ],
    ids=lambda change: " ".join(change),
)
def test_variants_are_the_ones_in_safetensors(tmp_path: Path, arch: str, change: dict[str, Any]) -> None:
    config = {**files.CONFIGS[arch], **change}
    weights = files.weights_of(config)
    scaling = config.get("rope_scaling", {})
    metadata = {f"{arch}.rope.scaling.{key.removeprefix('rope_')}": value for key, value in scaling.items()}
    check_same(
        files.write_model(tmp_path / "m.gguf", arch, config, weights, metadata),
        in_safetensors(tmp_path / "hf", config, weights),
    )


def test_llama_with_biases(tmp_path: Path) -> None:
    """Those of Q and K are interleaved too."""
    config = {**files.CONFIGS["llama"], "attention_bias": True}
    weights = files.weights_of(config)
    path = files.write_model(tmp_path / "m.gguf", "llama", config, weights)
    stored = GGUFCheckpoint(path)._file.float32("blk.0.attn_q.bias")
    assert not np.array_equal(stored, weights["layers.0.self_attn.q_proj.bias"])
    check_same(path, in_safetensors(tmp_path / "hf", config, weights))


@pytest.mark.parametrize("arch", ARCHS)
def test_names_are_the_ones_of_the_package(arch: str) -> None:
    """An opinion that is not ours: the table of llama.cpp's converter."""
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    table = gguf.get_tensor_name_map(kind, 2)
    prefix = "" if arch == "bert" else "model."
    config = {**files.CONFIGS[arch], "tie_word_embeddings": False}
    for name in files.weights_of(config):
        full = name if name.startswith("lm_head") else prefix + name
        assert table.get_name(full, try_suffixes=(".weight", ".bias")) == files.gguf_name(name)


def test_rows_are_interleaved_as_the_converter_does() -> None:
    rows = np.arange(24 * 3).reshape(24, 3)
    for heads in (1, 2, 3, 4, 6):
        expected = rows.reshape(heads, 2, 24 // heads // 2, 3).swapaxes(1, 2).reshape(24, 3)
        np.testing.assert_array_equal(interleave(rows, heads), expected)


@pytest.mark.parametrize("kind", [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q5_1])
@pytest.mark.parametrize("arch", ARCHS)
def test_quantized_matrices(tmp_path: Path, arch: str, kind: Type) -> None:
    """Rows move before they are decoded, so the order must be right for blocks too."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2 if arch != "bert" else 4}
    config = {**files.CONFIGS[arch], "hidden_size": 64, "intermediate_size": 96, "head_dim": 16, **heads}
    weights = files.weights_of(config)
    stored = files.tensors_of(arch, config, weights)
    extra = {name: files.quantized(array, kind) for name, array in stored.items() if array.ndim == 2}
    checkpoint = opened(tmp_path, arch, config=config, weights=weights, extra=extra)
    for name, array in weights.items():
        expected = gguf.quants.dequantize(*files.quantized(array, kind)) if array.ndim == 2 else array
        np.testing.assert_array_equal(checkpoint.array(name), expected)
        if array.ndim == 2:
            np.testing.assert_array_equal(checkpoint.weight(name).dense(), expected)


# -- the checkpoint


def test_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, "qwen2")
    assert checkpoint.kind == "gguf" and checkpoint.pooling is None and checkpoint.max_tokens is None
    assert checkpoint.names() == sorted(files.weights_of(files.CONFIGS["qwen2"]))
    assert "layers.0.self_attn.q_proj.weight" in checkpoint and "blk.0.attn_q.weight" not in checkpoint
    assert checkpoint.input_limit("norm.weight") is None
    with pytest.raises(MissingTensorsError, match=r"layers\.9\.mlp\.up_proj\.weight"):
        checkpoint.shape("layers.9.mlp.up_proj.weight")
    with pytest.raises(ShapeError, match=r"norm\.weight: expected a matrix"):
        checkpoint.weight("norm.weight")
    assert checkpoint.tokenizer().encode(["hello"]) == [[checkpoint.tokenizer().id_of("hello")]]


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    weights = files.weights_of(files.CONFIGS["llama"])
    weights["norm.weight"][[1, 4]] = np.inf, np.nan
    checkpoint = opened(tmp_path, "llama", weights=weights)
    with pytest.raises(DataError, match=r"output_norm\.weight: expected finite values, got 2 of 48"):
        checkpoint.array("norm.weight")


@pytest.mark.parametrize("name", ["output_norm.weight", "blk.1.ffn_down.weight", "blk.0.attn_norm.weight"])
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    missing = next(n for n in files.weights_of(files.CONFIGS["llama"]) if files.gguf_name(n) == name)
    with pytest.raises(MissingTensorsError, match=re.escape(missing)):
        architecture_of(opened(tmp_path, "llama", without=[name]))


@pytest.mark.parametrize("arch", ARCHS)
def test_the_table_of_tokens_is_needed(tmp_path: Path, arch: str) -> None:
    with pytest.raises(MissingTensorsError, match=r"token_embd\.weight"):
        opened(tmp_path, arch, without=["token_embd.weight"])


def test_bert_without_token_types(tmp_path: Path) -> None:
    """llama.cpp adds none then."""
    checkpoint = opened(tmp_path, "bert", without=["token_types.weight"])
    name = "embeddings.token_type_embeddings.weight"
    assert checkpoint.config["type_vocab_size"] == 1 and name in checkpoint and name in checkpoint.names()
    np.testing.assert_array_equal(checkpoint.weight(name).values, np.zeros((1, 48), np.float32))
    zeros = {**files.weights_of(files.CONFIGS["bert"]), name: np.zeros((1, 48), np.float32)}
    config = {**files.CONFIGS["bert"], "type_vocab_size": 1}
    check_same(checkpoint.path, in_safetensors(tmp_path / "hf", config, zeros))


@pytest.mark.parametrize(
    ("arch", "key", "value"),
    [
        ("llama", "llama.attention.sliding_window", 4096),
        ("llama", "llama.logit_scale", 0.5),
        ("llama", "llama.expert_count", 8),
        ("qwen2", "qwen2.attn_logit_softcapping", 50.0),
        ("bert", "bert.attention.max_alibi_bias", 8.0),
        ("llama", "general.type", "adapter"),
    ],
)
def test_what_would_change_the_answer_is_refused(tmp_path: Path, arch: str, key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=re.escape(key.removeprefix(arch + "."))):
        opened(tmp_path, arch, metadata={key: value})


def test_settings_that_change_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(
        tmp_path,
        "llama",
        metadata={
            "llama.attention.sliding_window": 0,
            "llama.vocab_size": 7,
            "general.type": "model",
            "general.basename": "x",
            "gemma3.attention.key_length": 3,
            "tokenizer.chat_template": "{{ x }}",
        },
    )
    assert not caplog.records
    opened(tmp_path, "llama", metadata={"llama.attention.novelty": 1})
    assert "attention.novelty" in caplog.text


def test_a_decoder_that_is_not_causal(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, "llama", metadata={"llama.attention.causal": False})
    assert checkpoint.config["is_causal"] is False and not architecture_of(checkpoint).generates


@pytest.mark.parametrize("count", [1, 3])
def test_bert_with_any_number_of_token_types(tmp_path: Path, count: int) -> None:
    config = {**files.CONFIGS["bert"], "type_vocab_size": count}
    checkpoint = opened(tmp_path, "bert", config=config)
    assert checkpoint.config["type_vocab_size"] == count
    architecture_of(checkpoint)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    "name",
    [
        "cls.norm.weight",
        "blk.0.attn_q_norm.weight",
        "blk.0.ffn_gate_exps.weight",
        "blk.x.attn_q.weight",
        "token_embd",
        "a",
    ],
)
def test_unknown_tensors_are_refused(tmp_path: Path, arch: str, name: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"1 tensors of unknown meaning: {re.escape(name)}$"):
        opened(tmp_path, arch, extra={name: np.zeros((4, 4), np.float32)})


def test_many_unknown_tensors_are_counted(tmp_path: Path) -> None:
    extra = {f"blk.{i}.mystery": np.zeros(4, np.float32) for i in range(11)}
    with pytest.raises(
        UnsupportedModelError, match=r"11 tensors of unknown meaning: blk\.0\.mystery, .*7\.mystery, \.\.\."
    ):
        opened(tmp_path, "llama", extra=extra)


@pytest.mark.parametrize("name", ["blk.7.attn_q.weight", "blk.00.attn_q.weight", "blk.\u0663.attn_q.weight"])
def test_blocks_beyond_the_last_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="would be ignored"):
        architecture_of(opened(tmp_path, "llama", extra={name: np.zeros((96, 48), np.float32)}))


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_rows_that_the_heads_do_not_divide(tmp_path: Path, part: str) -> None:
    config = {**files.CONFIGS["llama"], "attention_bias": True}
    extra = {f"blk.0.attn_q.{part}": np.zeros((90, 48) if part == "weight" else 90, np.float32)}
    checkpoint = opened(tmp_path, "llama", config=config, extra=extra)
    with pytest.raises(CheckpointError, match=rf"attn_q\.{part}: expected (rows for )?6 heads"):
        checkpoint.array(f"layers.0.self_attn.q_proj.{part}")
    with pytest.raises(ShapeError, match=r"attention\.query"):
        architecture_of(checkpoint)


# -- metadata


@pytest.mark.parametrize("arch", ARCHS)
def test_every_key_is_used(tmp_path: Path, arch: str) -> None:
    """Each moves its own entry of the config, and nothing else but what follows from it."""
    names = gguf_names()[arch]
    plain = opened(tmp_path, arch).config
    for key, suffix in names.keys.items():
        new = False if key == "is_causal" else plain[key] * 2
        follows = {"head_dim"} if key == "num_attention_heads" else set()
        more = {f"{arch}.rope.dimension_count": new} if key == "head_dim" else {}
        config = opened(tmp_path, arch, metadata={f"{arch}.{suffix}": new, **more}).config
        assert config[key] == new
        assert {k for k in config if config[k] != plain.get(k)} - follows == {key}


@pytest.mark.parametrize("arch", ARCHS)
def test_the_config_is_the_one_of_safetensors(tmp_path: Path, arch: str) -> None:
    config = opened(tmp_path, arch).config
    expected = {k: v for k, v in files.CONFIGS[arch].items() if not k.endswith("token_id")}
    assert {key: config.get(key) for key in expected} == expected
    if arch != "bert":
        assert (config["bos_token_id"], config["eos_token_id"]) == (0, 1)
    else:
        assert config["pad_token_id"] == 0


@pytest.mark.parametrize("arch", ARCHS)
def test_missing_keys_are_named_all_at_once(tmp_path: Path, arch: str) -> None:
    required = ["embedding_length", "feed_forward_length", "block_count", "attention.head_count", "context_length"]
    gone = {f"{arch}.{key}": None for key in required}
    with pytest.raises(ConfigError, match="metadata is missing: " + ", ".join(gone)):
        opened(tmp_path, arch, metadata=gone)
    for key in gone:
        with pytest.raises(ConfigError, match=f"metadata is missing: {key}$"):
            opened(tmp_path, arch, metadata={key: None})


@pytest.mark.parametrize("arch", ARCHS)
def test_the_other_keys_have_defaults(tmp_path: Path, arch: str) -> None:
    names = gguf_names()[arch]
    optional = {
        "bert": {"layer_norm_eps": 1e-12},
        "llama": {"num_key_value_heads": 6, "head_dim": 8, "rms_norm_eps": 1e-5, "rope_theta": 10000.0},
        "qwen2": {"num_key_value_heads": 6, "head_dim": 8, "rms_norm_eps": 1e-6, "rope_theta": 10000.0},
    }[arch]
    gone = {f"{arch}.{names.keys[key]}": None for key in optional}
    config = opened(tmp_path, arch, metadata=gone).config
    assert {key: config[key] for key in optional} == optional


WRONG = [
    "text",
    True,
    [1, 2],
    files.Typed(1.5, ValueType.FLOAT64),
    files.Typed(float("nan"), ValueType.FLOAT32),
    files.Typed(float("inf"), ValueType.FLOAT32),
    files.Typed(-3, ValueType.INT32),
    files.Typed(2**40, ValueType.UINT64),
]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda w: str(getattr(w, "value", w)))
def test_wrong_types_are_config_errors(tmp_path: Path, arch: str, wrong: Any) -> None:
    names = gguf_names()[arch]
    for key, suffix in names.keys.items():
        value = getattr(wrong, "value", wrong)
        number = key in ("layer_norm_eps", "rms_norm_eps", "rope_theta")
        if (number and value in (1.5, 2**40)) or (key == "is_causal" and value is True):
            continue  # these are right
        expected = "true or false" if key == "is_causal" else f"a {'positive' if number else 'whole'} number"
        with pytest.raises(ConfigError, match=f"{key}: expected {expected}"):
            opened(tmp_path, arch, metadata={f"{arch}.{suffix}": wrong})


@pytest.mark.parametrize("arch", DECODERS)
def test_heads_that_do_not_fit(tmp_path: Path, arch: str) -> None:
    with pytest.raises(ConfigError, match="expected a width that 0 heads divide, got 48"):
        opened(tmp_path, arch, metadata={f"{arch}.attention.head_count": 0})
    with pytest.raises(ConfigError, match="expected a width that 7 heads divide, got 48"):
        opened(tmp_path, arch, metadata={f"{arch}.attention.head_count": 7, f"{arch}.attention.key_length": None})
    with pytest.raises(ConfigError, match="num_attention_heads 6 is not a multiple of num_key_value_heads 4"):
        architecture_of(opened(tmp_path, arch, metadata={f"{arch}.attention.head_count_kv": 4}))


@pytest.mark.parametrize("arch", ARCHS)
def test_sizes_that_no_model_has_cost_nothing(tmp_path: Path, arch: str) -> None:
    """A list of two billion layers, or as many rotary frequencies, would be made before any tensor was missed."""
    names = gguf_names()[arch]
    for key in ("num_hidden_layers", "hidden_size", "head_dim"):
        if key in names.keys:
            with pytest.raises(ConfigError, match=f"{key}: expected at most .*, got 2147483647"):
                opened(tmp_path, arch, metadata={f"{arch}.{names.keys[key]}": 2**31 - 1})
    with pytest.raises(MissingTensorsError, match="tensors are missing"):
        architecture_of(opened(tmp_path, arch, metadata={f"{arch}.block_count": 100}))


@pytest.mark.parametrize("key", ["bos_token_id", "eos_token_id", "padding_token_id"])
def test_special_ids(tmp_path: Path, key: str) -> None:
    config = opened(tmp_path, "llama", metadata={f"tokenizer.ggml.{key}": 5}).config
    assert config[key.replace("padding", "pad")] == 5
    with pytest.raises(ConfigError, match="expected a token id"):
        opened(tmp_path, "llama", metadata={f"tokenizer.ggml.{key}": "x"})


@pytest.mark.parametrize(
    ("arch", "got"), [("falcon", "'falcon'"), ("clip", "'clip'"), (3, "3"), (["bert"], r"\['bert'\]"), (None, "None")]
)
def test_other_architectures_are_named(tmp_path: Path, arch: Any, got: str) -> None:
    path = tmp_path / "m.gguf"
    entry = {"general.architecture": arch} if isinstance(arch, (int, list)) else {}
    if arch is None:
        path.write_bytes(files.raw())
    else:
        files.write(path, str(arch), entry, {})
    with pytest.raises(
        UnsupportedModelError, match=f"general.architecture: expected one of bert, .*qwen2.*, got {got}"
    ):
        open_checkpoint(path)


# -- rotary embeddings


def frequencies(checkpoint: GGUFCheckpoint) -> np.ndarray:
    return architecture_of(checkpoint).details.rotaries[0].frequencies(1)


@pytest.mark.parametrize("arch", DECODERS)
@pytest.mark.parametrize(
    "keys",
    [
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        {"rope.scaling.type": "linear", "rope.scale_linear": 4.0},
        {"rope.scaling.factor": 4.0},  # llama.cpp's default type
        {"rope.scale_linear": 4.0},  # what llama.cpp wrote in 2023
        {"rope.scale_linear": 9.0, "rope.scaling.factor": 4.0},
    ],
    ids=lambda keys: " ".join(keys),
)
def test_linear_scaling(tmp_path: Path, arch: str, keys: dict[str, Any]) -> None:
    plain = frequencies(opened(tmp_path, arch))
    scaled = frequencies(opened(tmp_path, arch, metadata={f"{arch}.{key}": value for key, value in keys.items()}))
    np.testing.assert_array_equal(scaled, plain / np.float32(4))


@pytest.mark.parametrize("arch", DECODERS)
@pytest.mark.parametrize(
    "keys",
    [
        {"rope.scaling.type": "none"},
        {"rope.scaling.type": "none", "rope.scaling.factor": 4.0},
        {"rope.scaling.type": "linear"},
        {"rope.scaling.factor": 1.0},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 0.0},
    ],
    ids=lambda keys: " ".join(keys),
)
def test_no_scaling(tmp_path: Path, arch: str, keys: dict[str, Any]) -> None:
    plain = frequencies(opened(tmp_path, arch))
    same = frequencies(opened(tmp_path, arch, metadata={f"{arch}.{key}": value for key, value in keys.items()}))
    np.testing.assert_array_equal(same, plain)


def yarn_of_llama_cpp(d: int, theta: float, factor: float, original: int, fast: float, slow: float) -> np.ndarray:
    """llama.cpp's frequencies, one at a time."""

    def corrected(turns: float) -> float:
        return d * np.log(original / (turns * 2 * np.pi)) / (2 * np.log(theta))

    low, high = max(0.0, np.floor(corrected(fast))), min(d - 1.0, np.ceil(corrected(slow)))
    found = []
    for i in range(0, d, 2):
        mixed = 1 - min(1, max(0, (i / 2 - low) / max(0.001, high - low)))
        frequency = theta ** (-i / d)
        found.append(frequency / factor * (1 - mixed) + frequency * mixed)
    return np.array(found)


def scale_of(checkpoint: GGUFCheckpoint) -> float:
    """By how much the cosines and sines are larger than those of an angle."""
    cos, sin = architecture_of(checkpoint).details.rotaries[0].turns(np.array([0, 1], np.int64))
    return float(np.hypot(cos, sin)[0, 0])


@pytest.mark.parametrize("arch", DECODERS)
def test_yarn(tmp_path: Path, arch: str) -> None:
    theta, d = files.CONFIGS[arch]["rope_theta"], files.CONFIGS[arch]["head_dim"]
    keys = {"type": "yarn", "factor": 4.0, "original_context_length": 4096, "finetuned": True}
    model = opened(tmp_path, arch, metadata={f"{arch}.rope.scaling.{key}": value for key, value in keys.items()})
    np.testing.assert_allclose(frequencies(model), yarn_of_llama_cpp(d, theta, 4.0, 4096, 32, 1), rtol=1e-6)
    assert scale_of(model) == pytest.approx(1 + 0.1 * np.log(4))
    assert architecture_of(model).max_positions == 4 * 4096
    keys |= {"yarn_beta_fast": 8.0, "yarn_beta_slow": 2.0, "yarn_log_multiplier": 0.5, "attn_factor": 0.8}
    model = opened(tmp_path, arch, metadata={f"{arch}.rope.scaling.{key}": value for key, value in keys.items()})
    np.testing.assert_allclose(frequencies(model), yarn_of_llama_cpp(d, theta, 4.0, 4096, 8, 2), rtol=1e-6)
    assert scale_of(model) == pytest.approx(0.8 * (1 + 0.1 * np.log(4)) / (1 + 0.05 * np.log(4)))
    # Without an original length that of the file is it.
    model = opened(tmp_path, arch, metadata={f"{arch}.rope.scaling.type": "yarn", f"{arch}.rope.scaling.factor": 4.0})
    context = model.config["max_position_embeddings"]
    np.testing.assert_allclose(frequencies(model), yarn_of_llama_cpp(d, theta, 4.0, context, 32, 1), rtol=1e-6)


def test_longrope(tmp_path: Path) -> None:
    short, long = np.linspace(1, 2, 8, dtype=np.float32), np.linspace(1, 9, 8, dtype=np.float32)
    extra = {"rope_factors_short.weight": short, "rope_factors_long.weight": long}
    keys = {"type": "longrope", "original_context_length": 20, "attn_factor": 1.25, "factor": 2.0}
    metadata = {f"llama.rope.scaling.{key}": value for key, value in keys.items()}
    model = opened(tmp_path, "llama", metadata=metadata, extra=extra)
    turns, plain = architecture_of(model).details.rotaries[0], frequencies(opened(tmp_path, "llama"))
    np.testing.assert_allclose(turns.frequencies(20), plain / short / 2, rtol=1e-6)
    np.testing.assert_allclose(turns.frequencies(21), plain / long / 2, rtol=1e-6)
    assert scale_of(model) == pytest.approx(1.25)
    assert not {name for name in model.names() if "rope" in name}


@pytest.mark.parametrize(
    "keys, tensors, message",
    [
        ({"type": "longrope"}, (), r"expected rope_factors_short\.weight beside llama\.rope\.scaling\.type longrope"),
        ({"type": "yarn"}, ("rope_factors_long", "rope_factors_short"), r"scaling\.type: expected longrope beside"),
        ({}, ("rope_factors_long", "rope_factors_short"), r"scaling\.type: expected longrope beside"),
        ({"type": "linear", "factor": 2.0, "attn_factor": 1.5}, (), r"scaling\.attn_factor: expected 1, got 1\.5"),
        ({"type": "linear", "factor": 2.0, "yarn_ext_factor": 1.0}, (), r"yarn_ext_factor: expected 0 or -1, got 1"),
        ({"type": "yarn", "factor": 2.0, "yarn_ext_factor": 0.5}, (), r"yarn_ext_factor: expected 1 or -1, got 0\.5"),
        ({"type": "yarn", "factor": 2.0, "yarn_attn_factor": 3.0}, (), r"yarn_attn_factor: expected 1 or .*, got 3"),
        ({"alpha": 1000.0}, (), r"llama\.rope\.scaling\.alpha: not known"),
    ],
)
def test_scaling_that_cannot_be_done(
    tmp_path: Path, keys: dict[str, Any], tensors: tuple[str, ...], message: str
) -> None:
    metadata = {f"llama.rope.scaling.{key}": value for key, value in keys.items()}
    extra = {f"{name}.weight": np.ones(8, np.float32) for name in tensors}
    with pytest.raises(UnsupportedModelError, match=message):
        opened(tmp_path, "llama", metadata=metadata, extra=extra)


@pytest.mark.parametrize("kind", ["dynamic8", 3, ["linear"]])
def test_other_scaling_is_refused(tmp_path: Path, kind: Any) -> None:
    metadata = {"llama.rope.scaling.type": kind, "llama.rope.scaling.factor": 2.0}
    with pytest.raises(UnsupportedModelError, match="rope_scaling: type .* is not supported"):
        architecture_of(opened(tmp_path, "llama", metadata=metadata))


@pytest.mark.parametrize("factor", [-2.0, "x", True])
def test_factors_that_scale_nothing(tmp_path: Path, factor: Any) -> None:
    metadata = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": factor}
    with pytest.raises(ConfigError, match="factor"):
        architecture_of(opened(tmp_path, "llama", metadata=metadata))


def llama3_factors(head_dim: int, theta: float, factor: float) -> np.ndarray:
    """The divisors of llama.cpp's converter, one frequency at a time."""
    found = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * np.pi * theta ** (i / head_dim)
        if wavelength < 8192 / 4:
            found.append(1.0)
        elif wavelength > 8192 / 1:
            found.append(factor)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found, np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3_scaling_comes_from_its_factors(tmp_path: Path, factor: float) -> None:
    factors = llama3_factors(16, 500000.0, factor)
    assert 1 < len(set(factors.tolist()))
    checkpoint = opened(tmp_path, "llama", extra={"rope_freqs.weight": factors})
    assert checkpoint.config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    assert "rope_freqs.weight" not in checkpoint.names()
    plain = frequencies(opened(tmp_path, "llama"))
    np.testing.assert_allclose(frequencies(checkpoint), plain / factors, rtol=1e-5)


@pytest.mark.parametrize(
    "factors",
    [
        np.linspace(1, 8, 8, dtype=np.float32),
        llama3_factors(16, 10000.0, 8.0) * 1.01,
        llama3_factors(8, 500000.0, 8.0),
        np.zeros(8, np.float32),
        np.full(8, np.nan, np.float32),
        llama3_factors(16, 500000.0, 8.0)[None],
    ],
)
@pytest.mark.filterwarnings("error")
def test_other_factors_are_refused(tmp_path: Path, factors: np.ndarray) -> None:
    with pytest.raises(UnsupportedModelError, match=r"rope_freqs\.weight: expected the factors of Llama 3"):
        opened(tmp_path, "llama", extra={"rope_freqs.weight": factors})


def test_factors_beside_another_scaling_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"llama\.rope\.scaling: expected none beside rope_freqs\.weight"):
        opened(
            tmp_path,
            "llama",
            metadata={"llama.rope.scaling.factor": 2.0},
            extra={"rope_freqs.weight": llama3_factors(16, 500000.0, 8.0)},
        )


def test_factors_beside_a_scaling_that_does_nothing(tmp_path: Path) -> None:
    extra = {"rope_freqs.weight": llama3_factors(16, 500000.0, 8.0)}
    for keys in ({"type": "none", "factor": 8.0}, {"type": "linear"}, {"factor": 1.0}):
        metadata = {f"llama.rope.scaling.{key}": value for key, value in keys.items()}
        assert opened(tmp_path, "llama", metadata=metadata, extra=extra).config["rope_scaling"]["rope_type"] == "llama3"


def test_qwen2_has_no_factors(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"rope_freqs\.weight"):
        opened(tmp_path, "qwen2", extra={"rope_freqs.weight": llama3_factors(8, 1e6, 8.0)})


@pytest.mark.parametrize("rotated", [8, 15, "16", [16]])
def test_heads_that_rotate_in_part(tmp_path: Path, rotated: Any) -> None:
    assert opened(tmp_path, "llama", metadata={"llama.rope.dimension_count": 16}).config["head_dim"] == 16
    with pytest.raises(UnsupportedModelError, match="expected rotary embeddings over all 16 dimensions of a head, got"):
        opened(tmp_path, "llama", metadata={"llama.rope.dimension_count": rotated})


# -- pooling


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("kind", "mode"), [(1, "mean"), (2, "cls"), (3, "last")])
def test_pooling_types(tmp_path: Path, arch: str, kind: int, mode: str) -> None:
    checkpoint = opened(tmp_path, arch, metadata={f"{arch}.pooling_type": kind})
    assert checkpoint.pooling == pooling_of(checkpoint) == Pooling((mode,), normalize=True)
    model = aerogel.load(tmp_path / "m.gguf")
    hidden, pooled = model.forward(IDS, output="hidden"), model.forward(IDS, output="pooled")
    expected = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[mode]
    np.testing.assert_allclose(pooled.reshape(-1), expected, atol=1e-5)
    assert np.linalg.norm(model.forward(IDS, output="embedding")) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("metadata", [{}, {"pooling_type": 0}])
def test_without_a_pooling_the_family_decides(tmp_path: Path, arch: str, metadata: dict[str, int]) -> None:
    checkpoint = opened(tmp_path, arch, metadata={f"{arch}.{key}": value for key, value in metadata.items()})
    assert checkpoint.pooling is None
    assert pooling_of(checkpoint) == (Pooling(("mean",), normalize=False) if arch == "bert" else None)


@pytest.mark.parametrize("arch", ARCHS)
def test_other_poolings_are_refused(tmp_path: Path, arch: str) -> None:
    for kind in (4, 99):  # 4 is a reranker's
        with pytest.raises(
            UnsupportedModelError, match=rf"{arch}\.pooling_type: expected one of 0 \(none\), .*, got {kind}"
        ):
            opened(tmp_path, arch, metadata={f"{arch}.pooling_type": kind})
    for wrong in ([1], "mean", True, 1.0):
        with pytest.raises(ConfigError, match=rf"{arch}\.pooling_type: expected a whole number, got"):
            opened(tmp_path, arch, metadata={f"{arch}.pooling_type": wrong})


def test_the_pooling_of_another_architecture_says_nothing(tmp_path: Path) -> None:
    assert opened(tmp_path, "llama", metadata={"bert.pooling_type": 2}).pooling is None


# -- where the file is


@pytest.mark.parametrize("count", [2, 3, 65535])
def test_one_of_several_parts(tmp_path: Path, count: int) -> None:
    metadata = {
        "split.no": files.Typed(0, ValueType.UINT16),
        "split.count": files.Typed(count, ValueType.UINT16),
        "split.tensors.count": files.Typed(40, ValueType.INT32),
    }
    with pytest.raises(
        UnsupportedModelError, match=rf"one of {count} parts: merge them first \(llama-gguf-split --merge\)"
    ):
        opened(tmp_path, "llama", metadata=metadata)


@pytest.mark.parametrize("count", [0, 1])
def test_merged_parts(tmp_path: Path, count: int) -> None:
    """llama-gguf-split --merge leaves a count of 0 in its result."""
    architecture_of(opened(tmp_path, "llama", metadata={"split.count": files.Typed(count, ValueType.UINT16)}))


def test_parts_by_the_package(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama", split_max_tensors=2)
    for i in range(4):
        writer.add_tensor(f"blk.{i}.attn_norm.weight", np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = sorted(tmp_path.glob("*.gguf"))
    assert len(parts) == 2
    with pytest.raises(CheckpointError, match="expected one .gguf file, found m-00001-of-00002.gguf, m-00002-of"):
        open_checkpoint(tmp_path)
    with pytest.raises(UnsupportedModelError, match="one of 2 parts"):
        open_checkpoint(parts[0])


def test_folders_and_files(tmp_path: Path) -> None:
    path = files.write_model(tmp_path / "a.gguf", "qwen2")
    assert detect(path) and detect(tmp_path)
    assert read(tmp_path).path == read(path).path == path
    bare = tmp_path / "weights"
    bare.write_bytes(path.read_bytes())
    assert detect(bare) and open_checkpoint(bare).kind == "gguf"
    bare.write_bytes(b"GGU")
    assert not detect(bare)
    (tmp_path / "b.gguf").write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="expected one .gguf file, found a.gguf, b.gguf: give the path of one"):
        detect(tmp_path)
    in_safetensors(tmp_path, files.CONFIGS["qwen2"], files.weights_of(files.CONFIGS["qwen2"]))
    assert not detect(tmp_path) and open_checkpoint(tmp_path).kind == "safetensors"


def test_a_folder_whose_name_ends_like_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "model.gguf"
    config = files.CONFIGS["bert"]
    in_safetensors(folder, config, files.weights_of(config))
    assert open_checkpoint(folder).kind == "safetensors"
    (folder / "model.safetensors").unlink()
    files.write_model(folder / "m.gguf", "bert")
    assert open_checkpoint(folder).path == folder / "m.gguf"


def test_changed_metadata_is_an_aerogel_error_or_a_model(tmp_path: Path) -> None:
    """Every key with a value of every type: never another exception."""
    path = tmp_path / "m.gguf"
    for arch in ARCHS:
        keys = [*files.metadata_of(arch, files.CONFIGS[arch]), "general.architecture", "split.count"]
        keys += [f"{arch}.{k}" for k in ("pooling_type", "rope.scaling.type", "rope.scale_linear")]
        keys += [f"{arch}.rope.dimension_count", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.tokens"]
        for key in keys:
            for wrong in (["x"], "text", 2**31, float("nan")):
                files.write_model(path, arch, metadata={key: wrong})
                try:
                    checkpoint = open_checkpoint(path)
                    architecture_of(checkpoint)
                    checkpoint.tokenizer()
                except AerogelError:
                    pass


@pytest.mark.parametrize("kind", ["linear", "yarn", "longrope"])
def test_changed_scaling_is_an_aerogel_error_or_a_model(tmp_path: Path, kind: str) -> None:
    keys = ("factor", "attn_factor", "original_context_length", "yarn_log_multiplier", "yarn_ext_factor")
    extra = {f"rope_factors_{length}.weight": np.ones(8, np.float32) for length in ("short", "long")}
    for key in (*keys, "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"):
        for wrong in (["x"], "text", 2**31, float("nan"), 0.0, -1.0, 3e38):
            metadata = {"llama.rope.scaling.type": kind, f"llama.rope.scaling.{key}": wrong}
            with contextlib.suppress(AerogelError):
                architecture_of(opened(tmp_path, "llama", metadata=metadata, extra=extra if kind == "longrope" else {}))
