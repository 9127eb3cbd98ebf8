"""Layers of one model with different widths."""

import numpy as np
import pytest

import aerogel
from aerogel.architectures import architecture_of
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import ConfigError, ShapeError

from .. import tiny_models
from ..conftest import random_ids
from ..reference import bert, llama
from ..reference import structure as reference


def uneven_bert(heads, ffn, **changed):
    config = {**tiny_models.BERT, **changed, "head_dim": 12}
    weights = tiny_models.bert_weights(config)
    for i in range(2):
        t = f"encoder.layer.{i}."
        weights = reference.cut(weights, t, reference.BERT["attention"], reference.columns(range(heads[i]), 12))
        weights = reference.cut(weights, t, reference.BERT["ffn"], list(range(ffn[i])))
    config |= {"attention_heads": heads, "intermediate_sizes": ffn}
    config |= {"num_attention_heads": max(heads), "intermediate_size": max(ffn)}
    return config, weights


def uneven_llama(heads, kv_heads, ffn, **changed):
    config = {**tiny_models.LLAMA, **changed}
    weights = tiny_models.llama_weights(config)
    for i in range(2):
        t = f"layers.{i}."
        weights = reference.cut(weights, t, reference.LLAMA["queries"], reference.columns(range(heads[i]), 8))
        weights = reference.cut(weights, t, reference.LLAMA["keys"], reference.columns(range(kv_heads[i]), 8))
        weights = reference.cut(weights, t, reference.LLAMA["ffn"], list(range(ffn[i])))
        if not heads[i]:
            del weights[t + "input_layernorm.weight"]
        if not ffn[i]:
            del weights[t + "post_attention_layernorm.weight"]
    config |= {"attention_heads": heads, "key_value_heads": kv_heads, "intermediate_sizes": ffn}
    config |= {"num_attention_heads": max(heads), "num_key_value_heads": max(kv_heads), "intermediate_size": max(ffn)}
    return config, weights


@pytest.mark.parametrize("quant", [None, "none", "int8"])
@pytest.mark.parametrize(
    "heads, ffn",
    [
        ([4, 1], [100, 8]),
        ([3, 3], [37, 100]),
        ([0, 4], [100, 100]),
        ([4, 0], [100, 100]),
        ([4, 4], [0, 64]),
        ([4, 4], [64, 0]),
        ([0, 0], [0, 5]),
        ([0, 2], [0, 0]),
    ],
)
def test_bert(tmp_path, heads, ffn, quant):
    config, weights = uneven_bert(heads, ffn)
    folder = tiny_models.write(tmp_path / "model", config, weights, pooling=("mean", True))
    if quant:
        aerogel.compress(folder, tmp_path / "packed", sparsity=0, quant=quant)
        folder = tmp_path / "packed"
    sequences = [random_ids(config["vocab_size"], n, seed=n) for n in (1, 7, 15)]
    expected = np.concatenate([bert.hidden(config, weights, ids) for ids in sequences])
    got = aerogel.load(folder).forward(sequences, output="hidden")
    if quant == "int8":
        assert np.linalg.norm(got - expected) < 0.1 * np.linalg.norm(expected)
    else:
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_bert_without_any_block(tmp_path):
    config, weights = uneven_bert([0, 0], [0, 0])
    model = aerogel.load(tiny_models.write(tmp_path / "model", config, weights))
    np.testing.assert_allclose(model.forward([5, 6, 7]), bert.hidden(config, weights, [5, 6, 7]), atol=2e-5)


@pytest.mark.parametrize(
    "heads, kv_heads, ffn",
    [
        ([6, 3], [2, 1], [100, 8]),
        ([4, 6], [2, 2], [37, 100]),
        ([2, 6], [2, 1], [64, 64]),
        ([0, 6], [0, 2], [64, 64]),
        ([6, 0], [2, 0], [0, 64]),
    ],
)
@pytest.mark.parametrize("changed", [{}, {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}])
def test_llama(tmp_path, heads, kv_heads, ffn, changed):
    config, weights = uneven_llama(heads, kv_heads, ffn, **changed)
    model = aerogel.load(tiny_models.write(tmp_path / "model", config, weights))
    sequences = [random_ids(config["vocab_size"], n, seed=n) for n in (1, 7, 15)]
    expected = np.concatenate([llama.logits(config, weights, ids) for ids in sequences])
    np.testing.assert_allclose(model.forward(sequences), expected, atol=1e-4)
    ids = sequences[1]
    assert list(model.generate_tokens(ids, 8, stop=())) == llama.greedy(config, weights, ids, 8)


def test_llama_with_biases_in_its_outputs(tmp_path):
    biases = {"attention_bias": True, "mlp_bias": True}
    config, weights = uneven_llama([6, 3], [2, 1], [10, 64], **biases)
    model = aerogel.load(tiny_models.write(tmp_path / "model", config, weights))
    np.testing.assert_allclose(model.forward([5, 6, 7]), llama.logits(config, weights, [5, 6, 7]), atol=1e-4)
    for heads, ffn, message in (([0, 6], [9, 9], "attention_heads"), ([6, 6], [9, 0], "intermediate_sizes")):
        config, weights = uneven_llama(heads, [h // 3 for h in heads], ffn, **biases)
        with pytest.raises(
            ConfigError, match=f"{message}: expected at least 1 in every layer, as its output has a bias"
        ):
            aerogel.load(tiny_models.write(tmp_path / message, config, weights))


def test_hidden_size_that_heads_do_not_divide(tmp_path):
    config = {**tiny_models.BERT, "hidden_size": 40, "head_dim": 12}
    weights = reference.cut_hidden(tiny_models.bert_weights(tiny_models.BERT), np.arange(3, 43))
    model = aerogel.load(tiny_models.write(tmp_path / "model", config, weights, pooling=("mean", False)))
    np.testing.assert_allclose(model.forward([5, 6, 7]), bert.hidden(config, weights, [5, 6, 7]), atol=2e-5)
    assert model.encode("the cat").shape == (40,)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"intermediate_sizes": 100}, "intermediate_sizes: expected a list of whole numbers, got 100"),
        ({"intermediate_sizes": [100, "8"]}, "intermediate_sizes: expected a list of whole numbers"),
        ({"intermediate_sizes": [100, True]}, "intermediate_sizes: expected a list of whole numbers"),
        ({"intermediate_sizes": [100, -1]}, "intermediate_sizes: expected a list of whole numbers"),
        ({"intermediate_sizes": [100]}, "intermediate_sizes: expected one entry for each of 2 layers, got 1"),
        ({"intermediate_sizes": []}, "intermediate_sizes: expected one entry for each of 2 layers, got 0"),
        ({"intermediate_sizes": [8, 50]}, "intermediate_size: expected 50, the largest of intermediate_sizes, got 100"),
        ({"attention_heads": [4, 2]}, "head_dim is missing"),
        ({"attention_heads": [3, 2], "head_dim": 12}, "num_attention_heads: expected 3, the largest"),
        ({"head_dim": 0}, "head_dim: expected at least 1"),
    ],
)
def test_broken_lists(tmp_path, changed, message):
    folder = tiny_models.write(tmp_path, {**tiny_models.BERT, **changed}, tiny_models.bert_weights(tiny_models.BERT))
    with pytest.raises(ConfigError, match=message):
        aerogel.load(folder)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"attention_heads": [6, 3]}, "num_attention_heads 3 is not a multiple of num_key_value_heads 2 in layer 1"),
        ({"attention_heads": [6, 0]}, "num_attention_heads 0 is not a multiple of num_key_value_heads 2 in layer 1"),
        (
            {"attention_heads": [0, 0], "num_attention_heads": 0, "key_value_heads": [0, 0], "num_key_value_heads": 0},
            "attention_heads: expected at least one layer with heads",
        ),
        ({"key_value_heads": [2, 0]}, "num_attention_heads 6 is not a multiple of num_key_value_heads 0 in layer 1"),
    ],
)
def test_heads_and_groups_that_do_not_fit(tmp_path, changed, message):
    folder = tiny_models.write(tmp_path, {**tiny_models.LLAMA, **changed}, tiny_models.llama_weights(tiny_models.LLAMA))
    with pytest.raises(ConfigError, match=message):
        aerogel.load(folder)


def test_a_list_that_the_tensors_contradict(tmp_path):
    config = {**tiny_models.BERT, "intermediate_sizes": [100, 64]}
    folder = tiny_models.write(tmp_path, config, tiny_models.bert_weights(tiny_models.BERT))
    with pytest.raises(ShapeError, match=r"layers\.1\.ffn\.up: expected \[64, 48\], got \[100, 48\]"):
        aerogel.load(folder)


@pytest.mark.parametrize("key", ["intermediate_size", "num_attention_heads"])
def test_a_list_alone_is_enough(tmp_path, key):
    config, weights = uneven_bert([4, 2], [100, 30])
    del config[key]
    aerogel.load(tiny_models.write(tmp_path, config, weights))


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_every_axis_belongs_to_a_group_or_to_none(tmp_path, name):
    """The parts of all groups cover exactly the axes that have a name, each in whole units."""
    folder = tiny_models.write(
        tmp_path,
        *{
            "bert": (tiny_models.BERT, tiny_models.bert_weights(tiny_models.BERT)),
            "llama": (tiny_models.LLAMA, tiny_models.llama_weights(tiny_models.LLAMA)),
        }[name],
    )
    architecture = architecture_of(open_checkpoint(folder))
    tensors = {t.name: t for t in architecture.tensors()}
    found = set()
    for group in architecture.groups():
        for part in group.parts:
            assert part.size * group.count == tensors[part.tensor].shape[part.axis]
            if group.kind != "queries":  # a part of the heads seen otherwise
                assert (part.tensor, part.axis) not in found
                found.add((part.tensor, part.axis))
        assert group.count % group.sections == 0
    assert found == {(t.name, axis) for t in tensors.values() for axis, over in enumerate(t.axes) if over}
    assert all(len(t.axes) == len(t.shape) for t in tensors.values())
