import dataclasses
import json

import numpy as np
import pytest

from aerogel.errors import RecipeError, ShapeError
from aerogel.structure import StructureRecipe, prune_structure

from . import models


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"ffn": 0}, "ffn: expected a fraction up to 1.0 or the whole number that stays, got 0"),
        ({"ffn": -0.5}, "ffn: expected a fraction"),
        ({"ffn": float("nan")}, "ffn: expected a fraction"),
        ({"ffn": True}, "ffn: expected a fraction"),
        ({"ffn": "half"}, "ffn: expected a fraction .* got 'half'"),
        ({"ffn": 1.5}, "ffn: expected a fraction .* got 1.5"),
        ({"ffn": [0.5, 0]}, "ffn: expected a fraction"),
        ({"ffn": [0.5, 0.5], "scope": "global"}, "ffn: expected one amount with scope 'global'"),
        ({"hidden": [0.5, 0.5]}, "hidden: expected one amount"),
        ({"layers": []}, "layers: expected the numbers"),
        ({"layers": [1, 0]}, "layers: expected each once and in order"),
        ({"layers": [0, 0]}, "layers: expected each once and in order"),
        ({"layers": [-1]}, "layers: expected the numbers"),
        ({"layers": 0}, "layers: expected a fraction"),
        ({"score": "luck"}, "score: expected one of weights, .*, got 'luck'"),
        ({"scope": "town"}, "scope: expected one of layer, global"),
        ({"compensate": 1}, "compensate: expected true or false"),
        ({"damping": -1}, "damping: expected"),
        ({"multiple": 0}, "multiple: expected"),
    ],
)
def test_refused(changed, message):
    with pytest.raises(RecipeError, match=message):
        StructureRecipe(**changed)


def test_plain_values():
    recipe = StructureRecipe(ffn=[0.5, 70], heads=0.5, layers=[0, 2])
    plain = json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert StructureRecipe.of(plain) == recipe and recipe.ffn == (0.5, 70)
    with pytest.raises(RecipeError, match="structure: ffns: unknown, only ffn, heads"):
        StructureRecipe.of({"ffns": 0.5})
    with pytest.raises(RecipeError, match="structure: expected keys and values, got 0.5"):
        StructureRecipe.of(0.5)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"ffn": 101}, "ffn: layers.0.ffn: expected at most 100, got 101"),
        ({"heads": [1.0]}, "heads: expected one amount for each of 2 layers, got 1"),
        ({"queries": 0.5}, "queries: the model has no query heads that share"),
        ({"layers": [2]}, "layers: expected numbers below 2, got 2"),
        ({"layers": 3}, "layers: expected at most 2, got 3"),
        ({"layers": 1, "score": "contribution"}, "layers: score 'contribution' needs their influence"),
        ({"ffn": 0.5, "score": "contribution"}, r"statistics of 2 linears are missing: encoder\.layer\.0\.output"),
        ({"heads": 0.5, "compensate": True}, "statistics of 2 linears are missing"),
        ({"hidden": 0.5, "compensate": True}, "statistics of 8 linears are missing"),
    ],
)
def test_what_the_model_or_the_statistics_lack(tmp_path, changed, message):
    model = models.tiny(tmp_path, "bert")
    with pytest.raises(RecipeError, match=message):
        prune_structure(model.checkpoint, StructureRecipe(**{"score": "weights", "compensate": False, **changed}))


def test_statistics_of_another_model(tmp_path):
    model = models.tiny(tmp_path, "bert")
    found, _ = models.statistics(model)
    name = "encoder.layer.1.output.dense.weight"
    found[name] = found["encoder.layer.1.intermediate.dense.weight"]
    with pytest.raises(ShapeError, match=f"{name}: statistics: expected 100 inputs, got 48"):
        prune_structure(model.checkpoint, StructureRecipe(ffn=0.5), found)
    with pytest.raises(RecipeError, match="influence: expected one number for each of 2 layers"):
        prune_structure(model.checkpoint, StructureRecipe(layers=1), found, influence=[1.0])


@pytest.mark.parametrize("name", ["bert", "biases", "llama"])
@pytest.mark.parametrize("score", ["contribution", "obs"])
def test_compensation_and_calibrated_scores(tmp_path, name, score):
    """Every linear's output changes less than without compensation, and less than with units chosen by weights."""
    model = models.tiny(tmp_path, name)
    found, means = models.statistics(model)
    readers = [n for n in found if n.endswith("output.dense.weight") or "down_proj" in n or "o_proj" in n]

    def lost(**changed):
        smaller = prune_structure(model.checkpoint, StructureRecipe(**{
            "ffn": 0.5, "heads": 0.5, "score": score, **changed}), found)  # fmt: skip
        return [smaller.array(n).shape for n in readers], smaller

    shapes, compensated = lost()
    assert shapes == lost(compensate=False)[0]
    for tensor in readers:
        plain, better = lost(compensate=False)[1].array(tensor), compensated.array(tensor)
        assert not np.array_equal(plain, better)
    untouched = [n for n in compensated.names() if n not in readers and "norm" in n.lower()]
    assert untouched and all(np.array_equal(compensated.array(n), model.weights[n]) for n in untouched)
    with_mean = prune_structure(model.checkpoint, StructureRecipe(ffn=0.5, score=score), found, means=means)
    for tensor in readers:
        bias = tensor.removesuffix("weight") + "bias"
        if bias in model.weights and tensor.count("attention") == 0 and "o_proj" not in tensor:
            assert not np.array_equal(with_mean.array(bias), model.weights[bias])


def test_global_scope_keeps_units_where_they_matter(tmp_path):
    model = models.tiny(tmp_path, "llama")
    found, _ = models.statistics(model)
    quiet = "layers.0.mlp.down_proj.weight"
    gram = found[quiet].gram.copy()
    gram[30:] *= 1e-6
    gram[:, 30:] *= 1e-6  # most of the first layer's channels are nearly always 0
    found[quiet] = type(found[quiet])(found[quiet].tokens, gram, found[quiet].largest)
    recipe = StructureRecipe(ffn=0.5, scope="global", multiple=4, compensate=False)
    widths = prune_structure(model.checkpoint, recipe, found).config["intermediate_sizes"]
    assert sum(widths) == 100 and widths[0] <= 32 and all(w % 4 == 0 for w in widths)


@pytest.mark.parametrize("name", ["bert", "llama", "biases"])
def test_a_block_that_does_nothing_goes_altogether(tmp_path, name):
    model = models.tiny(tmp_path, name)
    found, means = models.statistics(model)
    silent = next(n for n in found if ".0." in n and ("down_proj" in n or "0.output.dense" in n))
    found[silent] = type(found[silent])(9, np.zeros((100, 100), np.float32), np.zeros(100, np.float32))
    recipe = StructureRecipe(ffn=0.48, scope="global")
    smaller = prune_structure(model.checkpoint, recipe, found, means={silent: np.full(100, 0.5, np.float32)})
    config = smaller.config
    if name == "biases":  # its output has a bias, so a channel has to carry it
        assert config["intermediate_sizes"] == [8, 88]
    else:
        assert config["intermediate_sizes"] == [0, 96] and silent not in smaller
    if name == "bert":
        bias = silent.replace("weight", "bias")
        np.testing.assert_allclose(
            smaller.array(bias), model.weights[bias] + model.weights[silent].sum(1) / 2, atol=1e-4
        )
    weights = {tensor: smaller.array(tensor) for tensor in smaller.names()}
    got = models.run(smaller, tmp_path / "out", [5, 6, 7])
    np.testing.assert_allclose(got, models.expected(config, weights, [5, 6, 7]), atol=1e-4)


def test_a_count_and_a_fraction(tmp_path):
    model = models.tiny(tmp_path, "bert")
    for amount, expected in ((40, 40), (0.4, 40), (1, 8), (1.0, 100), (0.01, 8), (100, 100)):
        recipe = StructureRecipe(ffn=amount, score="weights", compensate=False)
        assert prune_structure(model.checkpoint, recipe).config["intermediate_size"] == expected
