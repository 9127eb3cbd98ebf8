import numpy as np
import pytest

from aerogel.errors import DataError
from aerogel.structure import StructureRecipe, influence, prune_structure
from aerogel.structure.layers import BATCH_TOKENS

from . import models


def states(model, ids):
    """The hidden states' direction before each layer and after the last."""
    found = []
    for count in range(model.config["num_hidden_layers"] + 1):
        config = {**model.config, "num_hidden_layers": count}
        weights = dict(model.weights)
        if not model.is_bert:
            weights["norm.weight"] = np.ones(48, np.float32)  # scales each token: its direction stays
        found.append(models.expected(config, weights, ids))
    return found


@pytest.mark.parametrize("name", ["bert", "llama", "biases"])
def test_influence(tmp_path, name):
    model = models.tiny(tmp_path, name)
    sequences = [models.ids_for(model.config, n, n) for n in (1, 9, 30)]
    cosines = []
    for ids in sequences:
        h = states(model, ids)
        cosines.append([
            (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1) for a, b in zip(h, h[1:])
        ])  # fmt: skip
    expected = [1 - np.concatenate([c[i] for c in cosines]).mean() for i in range(2)]
    got = influence(model.checkpoint, sequences, threads=1)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    many = influence(model.checkpoint, sequences * (BATCH_TOKENS // 20), threads=1)  # several batches
    np.testing.assert_allclose(many, got, atol=1e-5)
    kept = int(np.argmax(got))
    smaller = prune_structure(model.checkpoint, StructureRecipe(layers=0.5), influence=got)
    by_number = prune_structure(model.checkpoint, StructureRecipe(layers=[kept]))
    assert all(np.array_equal(smaller.array(n), by_number.array(n)) for n in by_number.names())


def test_no_text(tmp_path):
    model = models.tiny(tmp_path, "bert")
    for sequences in ([], [[]], [[5], []]):
        with pytest.raises(DataError, match="expected sequences of 1 to .* tokens, got"):
            influence(model.checkpoint, sequences)


def test_statistics_move_with_their_layer(tmp_path):
    model = models.tiny(tmp_path, "llama")
    found, _ = models.statistics(model)
    both = prune_structure(model.checkpoint, StructureRecipe(layers=[1], ffn=0.5), found)
    late = prune_structure(
        prune_structure(model.checkpoint, StructureRecipe(ffn=0.5), found), StructureRecipe(layers=[1])
    )
    assert both.names() == late.names()
    assert all(np.array_equal(both.array(n), late.array(n)) for n in both.names())


def test_kinds_of_layers_go_too(tmp_path):
    model = models.tiny(tmp_path, "llama")
    model.checkpoint.config["layer_types"] = ["full_attention", "full_attention"]
    smaller = prune_structure(model.checkpoint, StructureRecipe(layers=1, score="weights"))
    assert smaller.config["layer_types"] == ["full_attention"]
