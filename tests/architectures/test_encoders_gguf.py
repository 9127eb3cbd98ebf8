"""RoBERTa's and DistilBERT's kind in GGUF: llama.cpp writes both down as BERTs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import aerogel
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import UnsupportedModelError

from . import peers

OURS = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "classifier.dense": "cls",
    "classifier.out_proj": "cls.output",
}
LAYER = {
    ("attention.self.query", "attention.q_lin"): "attn_q",
    ("attention.self.key", "attention.k_lin"): "attn_k",
    ("attention.self.value", "attention.v_lin"): "attn_v",
    ("attention.output.dense", "attention.out_lin"): "attn_output",
    ("attention.output.LayerNorm", "sa_layer_norm"): "attn_output_norm",
    ("intermediate.dense", "ffn.lin1"): "ffn_up",
    ("output.dense", "ffn.lin2"): "ffn_down",
    ("output.LayerNorm", "output_layer_norm"): "layer_output_norm",
}


def written(folder: Path, path: Path, offset: int = 0, metadata: dict[str, Any] | None = None, drop: str = "?") -> Path:
    """The model of a folder as llama.cpp's converter writes it: the first `offset` positions are left out."""
    checkpoint = open_checkpoint(folder)
    config = checkpoint.config
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_embedding_length(config.get("hidden_size") or config["dim"])
    writer.add_feed_forward_length(config.get("intermediate_size") or config["hidden_dim"])
    writer.add_block_count(config.get("num_hidden_layers") or config["n_layers"])
    writer.add_head_count(config.get("num_attention_heads") or config["n_heads"])
    writer.add_context_length(config["max_position_embeddings"] - offset)
    writer.add_layer_norm_eps(config.get("layer_norm_eps", 1e-12))
    writer.add_causal_attention(False)
    for key, value in (metadata or {}).items():
        (writer.add_array if isinstance(value, list) else writer.add_uint32)(key, value)
    inside = {f"{name}.": short for names, short in LAYER.items() for name in names}
    for name in checkpoint.names():
        if name.startswith(drop) or name.startswith("pooler."):
            continue
        stem, _, part = name.rpartition(".")
        array = np.ascontiguousarray(checkpoint.array(name))
        if "layer." in name:
            number, _, rest = stem.partition("layer.")[2].partition(".")
            writer.add_tensor(f"blk.{number}.{inside[rest + '.']}.{part}", array)
        else:
            cut = offset if "position" in stem else 0
            writer.add_tensor(f"{OURS[stem]}.{part}", np.ascontiguousarray(array[cut:]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


ROBERTA = {**peers.SIZES, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
DISTILBERT = {"vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 40}


@pytest.mark.parametrize(
    ("name", "config", "offset"),
    [("XLMRobertaModel", ROBERTA, 2), ("RobertaModel", ROBERTA, 2), ("DistilBertModel", DISTILBERT, 0)],
)
def test_the_same_as_in_safetensors(tmp_path: Path, name: str, config: dict[str, Any], offset: int) -> None:
    peers.save(tmp_path / "model", name, **config)
    path = written(
        tmp_path / "model", tmp_path / "m.gguf", offset, {"bert.pooling_type": 2, "tokenizer.ggml.padding_token_id": 1}
    )
    dense, read = aerogel.load(tmp_path / "model"), aerogel.load(path)
    assert read.max_positions == dense.max_positions == 40 - offset
    np.testing.assert_allclose(read.forward(peers.SEQUENCES), dense.forward(peers.SEQUENCES), atol=1e-6)


def test_a_reranker(tmp_path: Path) -> None:
    name = "XLMRobertaForSequenceClassification"
    peers.save(tmp_path / "model", name, **ROBERTA, id2label={0: "LABEL_0"})
    said = {"bert.pooling_type": 4, "tokenizer.ggml.padding_token_id": 1}
    path = written(tmp_path / "model", tmp_path / "m.gguf", 2, said)
    dense, read = aerogel.load(tmp_path / "model"), aerogel.load(path)
    assert read.outputs == ("hidden", "scores") and read.labels == ["LABEL_0"]
    assert read.max_positions == 38
    expected = dense.forward(peers.SEQUENCES, output="scores")
    np.testing.assert_allclose(read.forward(peers.SEQUENCES, output="scores"), expected, atol=1e-5)
    aerogel.export(path, tmp_path / "plain")
    found = peers.outputs(peers.reload(tmp_path / "plain", "RobertaForSequenceClassification"))["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    named = written(tmp_path / "model", tmp_path / "n.gguf", 2, {**said, "bert.classifier.output_labels": ["relevant"]})
    assert aerogel.load(named).labels == ["relevant"]
    half = written(tmp_path / "model", tmp_path / "h.gguf", 2, said, drop="classifier.dense")
    with pytest.raises(UnsupportedModelError, match=r"cls\.output\.weight: expected cls\.weight beside it"):
        aerogel.load(half)
