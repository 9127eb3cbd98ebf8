import numpy as np
import pytest

from aerogel.structure import StructureRecipe, observe, prune_on_texts, prune_structure

from . import models

SEQUENCES = [[5 + (7 * i * j + i) % 14 for j in range(2 + i)] for i in range(30)]


def readers(model, layer):
    """attention.out and ffn.down."""
    if model.is_bert:
        return [f"encoder.layer.{layer}.{n}output.dense.weight" for n in ("attention.", "")]
    return [f"layers.{layer}.{n}_proj.weight" for n in ("self_attn.o", "mlp.down")]


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_what_the_linears_see(tmp_path, name):
    model = models.tiny(tmp_path, name)
    found = observe(model.checkpoint, ["ffn", "heads"], SEQUENCES)
    assert sorted(found) == sorted(readers(model, 0) + readers(model, 1))
    assert {s.tokens for s in found.values()} == {sum(map(len, SEQUENCES))}
    hidden = observe(model.checkpoint, ["hidden"], SEQUENCES)
    query = "encoder.layer.0.attention.self.query.weight" if model.is_bert else "layers.0.self_attn.q_proj.weight"
    before = {**model.config, "num_hidden_layers": 0}
    weights = dict(model.weights)
    if not model.is_bert:
        weights["norm.weight"] = weights["layers.0.input_layernorm.weight"]
    x = np.concatenate([models.expected(before, weights, ids) for ids in SEQUENCES])
    np.testing.assert_allclose(hidden[query].gram, x.T @ x / len(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "llama", "biases", "no groups"])
@pytest.mark.parametrize("score", ["contribution", "obs", "weights"])
def test_on_the_way_through_the_model(tmp_path, name, score):
    model = models.tiny(tmp_path, name)
    recipe = StructureRecipe(ffn=0.5, heads=0.5, score=score)
    smaller = prune_on_texts(model.checkpoint, recipe, SEQUENCES, threads=1)
    again = prune_on_texts(model.checkpoint, recipe, SEQUENCES, threads=2)
    at_once = prune_structure(model.checkpoint, recipe, observe(model.checkpoint, ["ffn", "heads"], SEQUENCES))
    assert smaller.config == at_once.config and smaller.names() == at_once.names()
    first, _ = readers(model, 0)
    np.testing.assert_allclose(smaller.array(first), at_once.array(first), atol=1e-4)  # nothing has changed before it
    assert not np.allclose(smaller.array(readers(model, 1)[1]), at_once.array(readers(model, 1)[1]), atol=1e-3)
    assert all(np.array_equal(smaller.array(n), again.array(n)) for n in smaller.names())
    ids = SEQUENCES[-1]
    weights = {tensor: smaller.array(tensor) for tensor in smaller.names()}
    np.testing.assert_allclose(
        models.run(smaller, tmp_path / "out", ids), models.expected(smaller.config, weights, ids), atol=1e-4
    )


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_it_is_closer_to_the_dense_model(tmp_path, name):
    """On the texts themselves, each step of care pays."""
    model = models.tiny(tmp_path, name)
    sequences = [models.ids_for(model.config, 20, seed) for seed in range(40)]
    dense = np.concatenate([models.expected(model.config, model.weights, ids) for ids in sequences])

    def lost(checkpoint):
        weights = {tensor: checkpoint.array(tensor) for tensor in checkpoint.names()}
        got = np.concatenate([models.expected(checkpoint.config, weights, ids) for ids in sequences])
        return np.linalg.norm(got - dense) / np.linalg.norm(dense)

    recipe = StructureRecipe(ffn=0.5)
    seen = observe(model.checkpoint, ["ffn"], sequences)
    plain = lost(prune_structure(model.checkpoint, StructureRecipe(ffn=0.5, compensate=False), seen))
    at_once = lost(prune_structure(model.checkpoint, recipe, seen))
    on_the_way = lost(prune_on_texts(model.checkpoint, recipe, sequences))
    assert on_the_way < at_once < plain


def test_all_kinds(tmp_path):
    model = models.tiny(tmp_path, "llama")
    recipe = StructureRecipe(ffn=0.5, heads=0.5, queries=0.34, hidden=0.5, layers=1, scope="global")
    smaller = prune_on_texts(model.checkpoint, recipe, SEQUENCES)
    config = smaller.config
    assert config["num_hidden_layers"] == 1 and config["hidden_size"] == 24 and config["intermediate_size"] == 48
    assert config["num_attention_heads"] == 1 and config["num_key_value_heads"] == 1
    weights = {tensor: smaller.array(tensor) for tensor in smaller.names()}
    got = models.run(smaller, tmp_path / "out", [3, 4, 5])
    np.testing.assert_allclose(got, models.expected(config, weights, [3, 4, 5]), atol=1e-4)


def test_global_widths_on_the_way(tmp_path):
    model = models.tiny(tmp_path, "bert")
    recipe = StructureRecipe(ffn=0.5, scope="global", multiple=4)
    config = prune_on_texts(model.checkpoint, recipe, SEQUENCES).config
    seen = observe(model.checkpoint, ["ffn"], SEQUENCES)
    assert config == prune_structure(model.checkpoint, recipe, seen).config
