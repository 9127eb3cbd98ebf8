"""Tiny models to take units out of, and what calibration would see in them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

import aerogel
from aerogel.calibrate.statistics import Statistics
from aerogel.checkpoint import Checkpoint, open_checkpoint

from .. import tiny_models
from ..conftest import random_ids
from ..reference import bert, llama

CLASSIFIER = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}
CONFIGS = {
    "bert": tiny_models.BERT,
    "classifier": {**tiny_models.BERT, **CLASSIFIER},
    "mlm": {**tiny_models.BERT, "architectures": ["BertForMaskedLM"]},
    "llama": tiny_models.LLAMA,
    "own head": {**tiny_models.LLAMA, "tie_word_embeddings": False},
    "biases": {**tiny_models.LLAMA, "attention_bias": True, "mlp_bias": True},
    "qwen2": {**tiny_models.LLAMA, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
    "no groups": {**tiny_models.LLAMA, "num_key_value_heads": 6},
}
BERTS = ["bert", "classifier", "mlm"]
LLAMAS = ["llama", "own head", "biases", "qwen2", "no groups"]


class Tiny(NamedTuple):
    config: dict
    weights: dict[str, np.ndarray]
    checkpoint: Checkpoint

    @property
    def is_bert(self) -> bool:
        return self.config["model_type"] == "bert"


def tiny(folder: Path, name: str) -> Tiny:
    """The model of a config, written and opened."""
    config = CONFIGS[name]
    is_bert = config["model_type"] == "bert"
    weights = (tiny_models.bert_weights if is_bert else tiny_models.llama_weights)(config)
    return Tiny(config, weights, open_checkpoint(tiny_models.write(folder / "model", config, weights)))


def run(checkpoint: Checkpoint, folder: Path, ids, output="hidden", quant=None, sparsity=0.0) -> np.ndarray:
    """What the engine computes with a checkpoint, written as a folder, or compressed on top."""
    tiny_models.write(folder, checkpoint.config, {name: checkpoint.array(name) for name in checkpoint.names()})
    if quant:
        aerogel.compress(folder, folder / "packed", sparsity=sparsity, quant=quant, overwrite=True, method="magnitude")
        folder = folder / "packed"
    return aerogel.load(folder).forward(ids, output=output)


def expected(config, weights, ids, output="hidden") -> np.ndarray:
    """What the reference computes."""
    if config["model_type"] != "bert":
        return {"hidden": llama.hidden, "logits": llama.logits}[output](config, weights, ids)
    return {"hidden": bert.hidden, "scores": bert.scores, "logits": bert.masked_logits}[output](config, weights, ids)


def outputs(config) -> str:
    """The output that the whole model, its head too, takes part in."""
    if config["model_type"] != "bert":
        return "logits"
    return {"BertModel": "hidden", "BertForSequenceClassification": "scores"}.get(config["architectures"][0], "logits")


def statistics(model: Tiny, sequences=12, length=20) -> tuple[dict[str, Statistics], dict[str, np.ndarray]]:
    """Statistics of random but dependent inputs at every linear (as if calibrated), and their means."""
    found, means = {}, {}
    random = np.random.default_rng(3)
    for name, array in model.weights.items():
        if array.ndim == 2 and "embed" not in name and "lm_head" not in name:
            k = array.shape[1]
            x = random.standard_normal((sequences * length, k)) @ random.standard_normal((k, k)) / np.sqrt(k)
            x = (x * np.linspace(0.2, 2, k) + random.standard_normal(k) / 2).astype(np.float32)
            found[name], means[name] = Statistics.of(x), x.mean(0)
    return found, means


def ids_for(config, length=9, seed=0):
    return random_ids(config["vocab_size"], length, seed)
