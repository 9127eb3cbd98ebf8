"""Decoders as embedding models and rerankers, against sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel

from .. import tiny_models
from . import decoders

sentence_transformers = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")

QUERY = "Instruct: the big tree not the dog\nQuery:"
TEXTS = ["the cat sat", "a big red tree and the small dog ran under the mat", "not", "the dog ran on the cat"]


def ending_with(folder: Path, token: str) -> None:
    """Has the tokenizer end each text with a token, as Qwen3-Embedding's post-processor does, and pad on the left."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    number = tokenizer["model"]["vocab"][token]
    piece = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": token, "type_id": 0}}]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": piece,
        "pair": [piece[0], {"Sequence": {"id": "B", "type_id": 0}}, piece[1]],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }
    path.write_text(json.dumps(tokenizer))
    describe(folder, token)


def describe(folder: Path, pad: str) -> None:
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad, "padding_side": "left"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))


def embedder(folder: Path, changed: dict[str, Any] | None = None) -> Path:
    """A folder as Qwen3-Embedding's: the last token, normalised, with a prompt for queries."""
    decoders.made(folder, "qwen3", {"head_dim": 16, "tie_word_embeddings": True, **(changed or {})}, "Model")
    ending_with(folder, "</s>")
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 48, "pooling_mode_lasttoken": True, "include_prompt": True}
    pooling["pooling_mode_cls_token"] = pooling["pooling_mode_mean_tokens"] = False
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    said = {"prompts": {"query": QUERY, "document": ""}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize("changed", [{}, {"is_causal": False}], ids=["causal", "not causal"])
def test_embeddings_of_the_last_token(tmp_path: Path, changed: dict[str, Any]) -> None:
    folder = embedder(tmp_path / "m", changed)
    model = aerogel.load(folder)
    peer = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), peer.encode(TEXTS), atol=1e-5)
    got = model.encode(TEXTS, prompt_name="query")
    np.testing.assert_allclose(got, peer.encode(TEXTS, prompt_name="query"), atol=1e-5)
    assert abs(got - model.encode(TEXTS)).max() > 0.01
    aerogel.compress(folder, tmp_path / "packed", sparsity=0.0, quant="int8")
    packed = aerogel.load(tmp_path / "packed").encode(TEXTS, prompt_name="query")
    assert (packed * got).sum(1).min() > 0.999
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    plain = sentence_transformers.SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    assert (plain.encode(TEXTS, prompt_name="query") * got).sum(1).min() > 0.999


def test_an_embedder_of_the_whole_language_model(tmp_path: Path) -> None:
    """Qwen3-Embedding's config names Qwen3ForCausalLM, with the tensors of the bare model."""
    folder = embedder(tmp_path / "m")
    expected = aerogel.load(folder).encode(TEXTS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen3ForCausalLM"]}))
    np.testing.assert_array_equal(aerogel.load(folder).encode(TEXTS), expected)


@pytest.mark.parametrize("pad", [0, None])
def test_a_reranker_with_one_score(tmp_path: Path, pad: int | None) -> None:
    """As the converted Qwen3-Reranker is: a pair is one text after the other, the last token's score counts."""
    settings = {"head_dim": 16, "num_labels": 1, "pad_token_id": pad}
    decoders.made(tmp_path / "m", "qwen3", settings, "SequenceClassification")
    describe(tmp_path / "m", "<unk>")
    model = aerogel.load(tmp_path / "m")
    queries, documents = ["the cat", "a big tree"], [" ".join(TEXTS[:2]), TEXTS[3]]
    got = model.scores(queries, documents)
    peer = sentence_transformers.CrossEncoder(str(tmp_path / "m"), device="cpu", max_length=64)
    pairs = list(zip(queries, documents, strict=True))
    expected = [
        float(peer.predict([pair])[0]) for pair in pairs
    ]  # one by one: without a padding token it cannot do more
    np.testing.assert_allclose(1 / (1 + np.exp(-got[:, 0])), expected, atol=1e-5)
    assert abs(expected[0] - expected[1]) > 1e-3


def test_the_tokenizers_words(tmp_path: Path) -> None:
    folder = embedder(tmp_path / "m")
    ids = aerogel.load(folder).tokenizer.encode(["the cat"])[0]
    assert list(ids) == [3 + tiny_models.WORDS.index("the"), 3 + tiny_models.WORDS.index("cat"), 2]


def classifier(folder: Path, kind: str, pad: int | None, changed: dict[str, Any]) -> Any:
    settings = {"num_labels": 3, "pad_token_id": pad, **changed}
    return decoders.made(folder, kind, settings, "SequenceClassification")


@pytest.mark.parametrize("pad", [0, 2, None], ids=["pad", "pad is eos", "none"])
@pytest.mark.parametrize("kind", ["qwen2", "llama", "gemma", "gpt2", "opt"])
def test_a_classifier_passes_over_padding_at_the_end(tmp_path: Path, kind: str, pad: int | None) -> None:
    """Also where the text has such tokens itself, as Transformers does it: in batches and alone, with nothing else."""
    import torch

    changed = {"gemma": {"head_dim": 16}, "opt": {"ffn_dim": 64}}.get(kind, {})
    net = classifier(tmp_path, kind, pad, changed)
    model = aerogel.load(tmp_path)
    rows = [[5, 6, 2], [5, 6, 2, 2], [7, 0, 8, 0], [0, 0], [2], [9, 2, 0], [4, 2, 2, 2, 5]]
    with torch.no_grad():
        expected = [net(torch.tensor([row])).logits[0].numpy() for row in rows]
    np.testing.assert_allclose(model.forward(rows, output="scores"), expected, atol=1e-4)
    np.testing.assert_allclose(model.forward(rows[1], output="scores")[0], expected[1], atol=1e-4)
    ending_with(tmp_path, "</s>")
    texts = ["the cat sat", "a big red tree"]
    ids = aerogel.load(tmp_path).tokenizer.encode(texts)
    assert [row[-1] for row in ids] == [2, 2]
    with torch.no_grad():
        expected = [net(torch.tensor([row])).logits[0].numpy() for row in ids]
    np.testing.assert_allclose(aerogel.load(tmp_path).scores(texts), expected, atol=1e-4)
