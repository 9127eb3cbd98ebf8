"""Every scheme in a whole model: compressed, written, loaded, run."""

import numpy as np
import pytest

import aerogel
from aerogel.checkpoint import open_checkpoint

from .. import tiny_models

IDS, OFFSETS = [2, 5, 6, 7, 3, 2, 8, 9, 3], [0, 5, 9]


@pytest.mark.parametrize("sparsity", [0.0, 0.8])
@pytest.mark.parametrize(
    "quant", ["int8", "int8:g32", "int4:g32", "int4:g64:asym", "codebook:16", "codebook:64", "bf16", "none"]
)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_compressed_and_run(tmp_path, family, quant, sparsity):
    config = {"bert": tiny_models.BERT, "llama": tiny_models.LLAMA}[family]
    make = {"bert": tiny_models.bert_weights, "llama": tiny_models.llama_weights}[family]
    source = tiny_models.write(tmp_path / "source", config, make(config))
    aerogel.compress(source, tmp_path / "small", sparsity=sparsity, method="magnitude", quant=quant)
    model = aerogel.load(tmp_path / "small")
    got = model.forward(IDS, OFFSETS)

    # The same weights, decoded, in a model of floats: only what rounds activations may differ.
    packed = open_checkpoint(tmp_path / "small")
    decoded = {name: np.array(packed.array(name)) for name in packed.names()}
    floats = aerogel.load(tiny_models.write(tmp_path / "decoded", config, decoded))
    expected = floats.forward(IDS, OFFSETS)
    quantized_x = quant not in ("bf16", "none")
    scale = np.abs(expected).max()
    assert np.abs(got - expected).max() <= (0.1 if quantized_x else 1e-4) * scale
    assert np.isfinite(got).all() and (expected != 0).any()

    again = tmp_path / "again"
    aerogel.compress(source, again, sparsity=sparsity, method="magnitude", quant=quant)
    assert (again / "model.safetensors").read_bytes() == (tmp_path / "small" / "model.safetensors").read_bytes()
