"""Fixtures: tiny random models on disk, and real ones where the environment names them."""

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


def _real(variable):
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"set {variable} to the model's path to run this")
    if not Path(path).exists():
        pytest.fail(f"{variable} names {path}, which does not exist")
    return path


@pytest.fixture(scope="session")
def minilm():
    """all-MiniLM-L6-v2, a folder."""
    return _real("AEROGEL_MINILM")


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct, a GGUF."""
    return _real("AEROGEL_SMOLLM2")
