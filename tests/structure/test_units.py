"""A model without units is the whole model with those units zeroed out."""

import numpy as np
import pytest

from aerogel.structure import StructureRecipe, prune_structure

from ..reference import structure as reference
from . import models


def plain(**amounts):
    return StructureRecipe(**amounts, score="weights", compensate=False, multiple=1)


def names(model, block):
    """The tensors of a layer that the units of a block are connected by, and how their names begin."""
    if model.is_bert:
        return "encoder.layer.{}.", reference.BERT["attention" if block != "ffn" else "ffn"]
    return "layers.{}.", {
        "ffn": reference.LLAMA["ffn"],
        "heads": reference.LLAMA["queries"] + reference.LLAMA["keys"],
        "queries": reference.LLAMA["queries"],
    }[block]


def by_hand(model, layer, block, units):
    """Unit by unit, the sum of |w| over all that it is connected by."""
    prefix, tensors = names(model, block)
    total = np.zeros(units)
    for name, axis in tensors:
        array = model.weights.get(prefix.format(layer) + name)
        if array is not None:
            for unit, block_of in enumerate(np.split(array, units, axis=axis)):
                total[unit] += np.abs(block_of.astype(np.float64)).sum()
    return total


@pytest.mark.parametrize("name", models.BERTS + models.LLAMAS)
@pytest.mark.parametrize("share", [0.75, 0.1])
def test_ffn_channels(tmp_path, name, share):
    model = models.tiny(tmp_path, name)
    smaller = prune_structure(model.checkpoint, plain(ffn=share))
    count = round(100 * share)
    assert smaller.config == {**model.config, "intermediate_size": count}
    weights, prefix = model.weights, names(model, "ffn")[0]
    for i in range(2):
        gone = np.argsort(by_hand(model, i, "ffn", 100))[: 100 - count]
        down = prefix.format(i) + ("output.dense.weight" if model.is_bert else "mlp.down_proj.weight")
        assert smaller.shape(down) == (48, count)
        weights = reference.zero(weights, down, gone)
    ids, output = models.ids_for(model.config), models.outputs(model.config)
    got = models.run(smaller, tmp_path / "out", ids, output)
    np.testing.assert_allclose(got.squeeze(), models.expected(model.config, weights, ids, output), atol=1e-4)


HEADS = [
    ("bert", "heads", 3),
    ("bert", "heads", 1),
    ("classifier", "heads", 2),
    ("llama", "heads", 1),
    ("llama", "queries", 4),
    ("llama", "queries", 2),
    ("biases", "heads", 1),
    ("biases", "queries", 2),
    ("qwen2", "queries", 4),
    ("no groups", "heads", 4),
]


@pytest.mark.parametrize("name, kind, count", HEADS)
def test_heads(tmp_path, name, kind, count):
    model = models.tiny(tmp_path, name)
    heads = model.config["num_attention_heads"]
    kv = model.config.get("num_key_value_heads", heads)
    units = heads if kind == "queries" else kv
    d = (8 if not model.is_bert else 12) * (1 if kind == "queries" else heads // kv)
    smaller = prune_structure(model.checkpoint, plain(**{kind: count / units}))
    weights = model.weights
    prefix = names(model, kind)[0]
    for i in range(2):
        scores = by_hand(model, i, kind, units)
        if kind == "queries":  # the best of each group
            rows = scores.reshape(kv, -1)
            gone = [g * (heads // kv) + j for g in range(kv) for j in np.argsort(rows[g])[: (units - count) // kv]]
        else:
            gone = np.argsort(scores)[: units - count]
        out = prefix.format(i) + ("attention.output.dense.weight" if model.is_bert else "self_attn.o_proj.weight")
        assert smaller.shape(out) == (48, count * d)
        weights = reference.zero(weights, out, reference.columns(gone, d))
    ids, output = models.ids_for(model.config), models.outputs(model.config)
    got = models.run(smaller, tmp_path / "out", ids, output)
    np.testing.assert_allclose(got.squeeze(), models.expected(model.config, weights, ids, output), atol=1e-4)
    assert smaller.config["num_attention_heads"] == (count if kind == "queries" else count * heads // kv)


@pytest.mark.parametrize("name", models.BERTS + models.LLAMAS)
def test_hidden_channels(tmp_path, name):
    model = models.tiny(tmp_path, name)
    smaller = prune_structure(model.checkpoint, plain(hidden=40))
    assert smaller.config["hidden_size"] == 40 and smaller.config["head_dim"] == (12 if model.is_bert else 8)
    total = np.zeros(48)
    for tensor, array in model.weights.items():
        unread = model.is_bert and name != "classifier" and tensor.startswith("pooler")
        for channel in range(48) if not unread else ():
            for axis, size in enumerate(array.shape):
                if touches_hidden(tensor, axis, array.ndim):
                    total[channel] += np.abs(np.take(array, channel, axis=axis).astype(np.float64)).sum()
    kept = np.sort(np.argsort(total)[8:])
    config = {**model.config, "hidden_size": 40, "head_dim": 12 if model.is_bert else 8}
    weights = reference.cut_hidden(model.weights, kept)
    for tensor in smaller.names():
        assert np.array_equal(smaller.array(tensor), weights[tensor]), tensor
    ids, output = models.ids_for(config), models.outputs(config)
    got = models.run(smaller, tmp_path / "out", ids, output)
    np.testing.assert_allclose(got.squeeze(), models.expected(config, weights, ids, output), atol=1e-4)


def touches_hidden(name, axis, dimensions):
    probe = {name: np.zeros((48, 48) if dimensions == 2 else 48)}
    return reference.cut_hidden(probe, np.arange(40))[name].shape[axis] == 40


@pytest.mark.parametrize("name", ["bert", "mlm", "llama", "qwen2"])
@pytest.mark.parametrize("kept", [[0], [1]])
def test_layers(tmp_path, name, kept):
    model = models.tiny(tmp_path, name)
    smaller = prune_structure(model.checkpoint, StructureRecipe(layers=kept))
    config = {**model.config, "num_hidden_layers": 1}
    assert smaller.config == config
    prefix = "encoder.layer.{}." if model.is_bert else "layers.{}."
    weights = {n.replace(prefix.format(kept[0]), prefix.format(0)): a for n, a in model.weights.items()
               if not n.startswith(prefix.format(1 - kept[0]))}  # fmt: skip
    ids, output = models.ids_for(config), models.outputs(config)
    got = models.run(smaller, tmp_path / "out", ids, output)
    np.testing.assert_allclose(got, models.expected(config, weights, ids, output), atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "llama", "biases"])
def test_everything_at_once_and_unevenly(tmp_path, name):
    model = models.tiny(tmp_path, name)
    recipe = plain(ffn=[0.3, 70], heads=[1.0, 0.5], hidden=0.5)
    smaller = prune_structure(model.checkpoint, recipe)
    config = smaller.config
    assert config["intermediate_sizes"] == [30, 70] and config["intermediate_size"] == 70
    assert config["attention_heads"] == ([4, 2] if model.is_bert else [6, 3])
    assert config.get("key_value_heads") == (None if model.is_bert else [2, 1])
    weights = {tensor: smaller.array(tensor) for tensor in smaller.names()}
    ids = models.ids_for(config, 17)
    output = models.outputs(config)
    want = models.expected(config, weights, ids, output)
    np.testing.assert_allclose(models.run(smaller, tmp_path / "out", ids, output), want, atol=1e-4)
    # and sparsity and quantization on top
    tight = models.run(smaller, tmp_path / "int8", ids, output, quant="int8", sparsity=0.3)
    assert tight.shape == want.shape and np.isfinite(tight).all()
    close = models.run(smaller, tmp_path / "int8", ids, output, quant="int8")
    assert np.linalg.norm(close - want) <= 0.1 * np.linalg.norm(want)


def test_uneven_layers_keep_their_widths_when_others_go(tmp_path):
    model = models.tiny(tmp_path, "llama")
    uneven = prune_structure(model.checkpoint, plain(ffn=[0.3, 0.7], heads=[1.0, 0.5]))
    last = prune_structure(uneven, plain(layers=[1]))
    assert last.config["intermediate_size"] == 70 and last.config["num_attention_heads"] == 3
    assert not {"intermediate_sizes", "attention_heads", "key_value_heads"} & set(last.config)
    got = models.run(last, tmp_path / "out", [3, 4, 5])
    weights = {tensor: last.array(tensor) for tensor in last.names()}
    np.testing.assert_allclose(got, models.expected(last.config, weights, [3, 4, 5]), atol=1e-4)


def test_generation_with_uneven_heads(tmp_path):
    """The KV cache has other heads in each layer."""
    import aerogel

    from ..reference import llama

    model = models.tiny(tmp_path, "llama")
    smaller = prune_structure(model.checkpoint, plain(ffn=[0.3, 0.7], heads=[0.5, 1.0]))
    ids = models.ids_for(model.config, 5)
    models.run(smaller, tmp_path / "out", ids)
    got = list(aerogel.load(tmp_path / "out").generate_tokens(ids, 16, stop=()))
    weights = {tensor: smaller.array(tensor) for tensor in smaller.names()}
    assert got == llama.greedy(smaller.config, weights, ids, 16)


def test_the_source_is_not_changed(tmp_path):
    model = models.tiny(tmp_path, "bert")
    found, means = models.statistics(model)
    smaller = prune_structure(model.checkpoint, StructureRecipe(ffn=0.5, heads=0.5, hidden=0.5), found, means=means)
    for tensor, array in model.weights.items():
        if not tensor.startswith("pooler"):
            assert np.array_equal(model.checkpoint.array(tensor), array)
            assert smaller.array(tensor).shape == smaller.shape(tensor)
    assert model.checkpoint.config == model.config
    assert smaller.tokenizer().encode(["the cat"]) == model.checkpoint.tokenizer().encode(["the cat"])
