"""Schemes by sensitivity."""

import numpy as np
import pytest

import aerogel
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import RecipeError

from ..conftest import random_ids
from ..tiny_models import WORDS


@pytest.fixture
def texts(tmp_path):
    random = np.random.default_rng(0)
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(" ".join(random.choice(WORDS, random.integers(3, 20))) for _ in range(60)))
    return file


def test_layers_share_the_bits_out(llama_folder, texts, tmp_path):
    source = llama_folder
    ids = random_ids(open_checkpoint(source).config["vocab_size"], 30)
    dense = aerogel.load(source).forward(ids, output="hidden")
    loss = {}
    for quant in ("int4:g64:asym", "auto:6.5bits"):
        recipe = {"quantize": {"weights": quant, "embeddings": "none"}}
        report = aerogel.compress(source, tmp_path / quant[:4], recipe=recipe, calibrate=texts)
        loss[quant] = float(np.mean((aerogel.load(tmp_path / quant[:4]).forward(ids, output="hidden") - dense) ** 2))
    assert report.recipe["quantize"]["weights"] == "auto:6.5bits"
    schemes = {tensor.name: tensor.scheme for tensor in report.linears}
    assert len(set(schemes.values())) > 1
    weights = sum(np.prod(tensor.shape) for tensor in report.linears)
    assert 6 * weights < sum(8 * tensor.bytes for tensor in report.linears) < 6.52 * weights  # files say shapes, too
    stacks = aerogel.load(source)._architecture.stacks()
    assert all(len({schemes[name] for name in names if name in schemes}) <= 1 for names in stacks)
    assert loss["auto:6.5bits"] < 0.8 * loss["int4:g64:asym"]


def test_what_does_not_go_with_it(llama_folder, texts, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RecipeError, match="auto:4.5bits shares out the bits of a dense model"):
        aerogel.compress(llama_folder, out, 0.5, quant="auto:4.5bits", calibrate=texts)
    with pytest.raises(RecipeError, match="target: chooses a sparsity, with which"):
        aerogel.compress(llama_folder, out, quant="auto:4.5bits", target=aerogel.Target(size=10))
    with pytest.raises(RecipeError, match="expected auto:B with 4.3 to 8.0 bits"):
        aerogel.compress(llama_folder, out, quant="auto:3bits", calibrate=texts)
    assert not out.exists()
