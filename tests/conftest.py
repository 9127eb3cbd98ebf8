"""Fixtures: tiny random models on disk, and real ones for the tests that want one.

Kernels are chosen without measuring (AEROGEL_TUNE=off), so that the same ones run every time; tests of the measuring
turn it on.

AEROGEL_MINILM (a folder) and AEROGEL_SMOLLM2 (a .gguf file) give the real ones' paths; AEROGEL_TEST_MODELS=1 downloads
them. Without either, the tests that need one are skipped, visibly.

AEROGEL_STRICT_SKIPS=1 makes every skip a failure that allowed_skips.txt does not list (skips.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aerogel.compression import texts as calibration

from . import skips, tiny_models

os.environ["AEROGEL_TUNE"] = "off"


def pytest_configure(config: pytest.Config) -> None:
    skips.register(config)


def random_ids(vocab_size: int, length: int, seed: int = 0) -> list[int]:
    """Token ids without the specials of the tiny tokenizers."""
    return np.random.default_rng(seed).integers(5, vocab_size, length).tolist()


@pytest.fixture(scope="session", autouse=True)
def few_calibration_tokens() -> Iterator[None]:
    """The general mix shows a tiny model what it has to show in a sixteenth of the tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "TOTAL", 4096)
        patch.setattr(calibration, "TOTAL_OF_WINDOWS", 4096)
        yield


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: mean pooling, normalised."""
    config = tiny_models.BERT
    folder = tmp_path_factory.mktemp("models") / "bert"
    return tiny_models.write(folder, config, tiny_models.bert_weights(config), pooling=("mean", True))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal language model with tied embeddings and grouped heads."""
    config = tiny_models.LLAMA
    folder = tmp_path_factory.mktemp("models") / "llama"
    return tiny_models.write(folder, config, tiny_models.llama_weights(config), prefix="model.")


@pytest.fixture(scope="session")
def long_llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with positions for several blocks of the KV cache."""
    config = {**tiny_models.LLAMA, "max_position_embeddings": 256}
    folder = tmp_path_factory.mktemp("models") / "long_llama"
    return tiny_models.write(folder, config, tiny_models.llama_weights(config), prefix="model.")


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
        from aerogel.checkpoint import samples as sample_models

        return sample_models.fetch(name)
    pytest.skip(f"{name}: set {variable} to its path, or AEROGEL_TEST_MODELS=1 to download it")
