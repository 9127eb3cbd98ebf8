"""Fixtures: tiny random models on disk, and real ones for the tests that want one.

AEROGEL_MINILM (a folder) and AEROGEL_SMOLLM2 (a .gguf file) give their paths; AEROGEL_TEST_MODELS=1 downloads them. Without
either, the tests that need one are skipped, visibly.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from . import tiny_models


def random_ids(vocab_size, length, seed=0):
    """Token ids without the specials of the tiny tokenizers."""
    import numpy as np

    return np.random.default_rng(seed).integers(5, vocab_size, length).tolist()


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory):
    """A sentence-transformers folder: mean pooling, normalised."""
    config = tiny_models.BERT
    return tiny_models.write(
        tmp_path_factory.mktemp("models") / "bert", config, tiny_models.bert_weights(config), pooling=("mean", True)
    )


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    """A causal language model with tied embeddings and grouped heads."""
    config = tiny_models.LLAMA
    return tiny_models.write(
        tmp_path_factory.mktemp("models") / "llama", config, tiny_models.llama_weights(config), prefix="model."
    )


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    return _model("AEROGEL_MINILM", "all-MiniLM-L6-v2")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct."""
    return _model("AEROGEL_SMOLLM2", "SmolLM2-135M-Instruct")


def _model(variable: str, name: str) -> Path:
    path = os.environ.get(variable)
    if path:
        assert Path(path).exists(), f"{variable}: no such path: {path}"
        return Path(path)
    if os.environ.get("AEROGEL_TEST_MODELS") == "1":
        from aerogel import sample_models

        return sample_models.fetch(name)
    pytest.skip(f"{name}: set {variable} to its path, or AEROGEL_TEST_MODELS=1 to download it")
