"""Qwen3-Embedding and EmbeddingGemma with all the files that their folders have, call by call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel

from ...architectures import decoders
from ...engine import rerankers

library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")

TEXTS = ["What is the capital of China?", "", "The capital of China is Beijing.\n\n", "naïve 你好 " * 40]
QWEN = {
    "query": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
    "document": "",
}
GEMMA = {
    "query": "task: search result | query: ",
    "document": "title: none | text: ",
    "BitextMining": "task: search result | query: ",
    "Retrieval-query": "task: search result | query: ",
    "Retrieval-document": "title: none | text: ",
    "STS": "task: sentence similarity | query: ",
}


def ends(folder: Path, before: str | None, after: str) -> None:
    """Has the tokenizer put tokens around each text."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    ids = {added["content"]: added["id"] for added in tokenizer["added_tokens"]}
    around = [token for token in (before, after) if token is not None]
    pieces: list[dict[str, Any]] = [{"SpecialToken": {"id": token, "type_id": 0}} for token in around]
    pieces.insert(len(around) - 1, {"Sequence": {"id": "A", "type_id": 0}})
    template = {
        "type": "TemplateProcessing",
        "single": pieces,
        "pair": [*pieces[:-1], {"Sequence": {"id": "B", "type_id": 0}}, pieces[-1]],
        "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in around},
    }
    tokenizer["post_processor"] = {"type": "Sequence", "processors": [tokenizer["post_processor"], template]}
    path.write_text(json.dumps(tokenizer))


def files(folder: Path, modes: str, modules: list[tuple[str, str, dict[str, Any]]], said: dict[str, Any]) -> None:
    listed = [("", "Transformer"), ("1_Pooling", "Pooling"), *((path, kind) for path, kind, _ in modules)]
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (path, kind) in enumerate(listed)
            ]
        )
    )
    flags = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    pooling = {"word_embedding_dimension": 48, **{f"pooling_mode_{flag}": flag == modes for flag in flags}}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({**pooling, "include_prompt": True}))
    for path, _, config in modules:
        if config:
            (folder / path).mkdir()
            (folder / path / "config.json").write_text(json.dumps(config))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))


def qwen(folder: Path) -> None:
    """The config names the language model, the tensors are the bare model's; the template is one for chats."""
    settings = {"vocab_size": 266, "head_dim": 16, "tie_word_embeddings": True, "max_position_embeddings": 128}
    decoders.made(folder, "qwen3", {**settings, "eos_token_id": 261, "bos_token_id": 261}, "Model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["Qwen3ForCausalLM"], "use_sliding_window": False, "max_window_layers": 3}
    (folder / "config.json").write_text(json.dumps(config))
    rerankers.tokenizer(folder, None)
    ends(folder, None, "<|endoftext|>")
    said = {"add_bos_token": False, "add_prefix_space": False, "bos_token": None, "eos_token": "<|im_end|>"}
    said |= {
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": 131072,
        "split_special_tokens": False,
    }
    said |= {"pad_token": "<|endoftext|>", "padding_side": "left", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**said, "chat_template": rerankers.CHAT, "unk_token": None})
    )
    (folder / "generation_config.json").write_text(
        json.dumps({"bos_token_id": 260, "eos_token_id": 260, "max_new_tokens": 2048, "transformers_version": "4.51.3"})
    )
    prompts = {"prompts": QWEN, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    files(folder, "lasttoken", [("2_Normalize", "Normalize", {})], prompts)


def gemma(folder: Path) -> None:
    """Two linears behind the mean; attention to both sides; tokens at both ends."""
    from safetensors.numpy import save_file

    settings = {"vocab_size": 266, "head_dim": 12, "sliding_window": 9, "use_bidirectional_attention": True}
    settings |= {
        "max_position_embeddings": 128,
        "query_pre_attn_scalar": 12,
        "pad_token_id": 261,
        "tie_word_embeddings": True,
    }
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    decoders.made(folder, "gemma3_text", {**settings, "layer_types": kinds}, "Model")
    rerankers.tokenizer(folder, None)
    ends(folder, "<|im_start|>", "<|im_end|>")
    said = {"add_bos_token": True, "add_eos_token": True, "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    said |= {"model_max_length": 2048, "padding_side": "right", "pad_token": "<|endoftext|>", "sp_model_kwargs": None}
    (folder / "tokenizer_config.json").write_text(json.dumps({**said, "tokenizer_class": "PreTrainedTokenizerFast"}))
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64, "do_lower_case": False}))
    identity = {"bias": False, "activation_function": "torch.nn.modules.linear.Identity"}
    wide, back = (
        {"in_features": 48, "out_features": 192, **identity},
        {"in_features": 192, "out_features": 48, **identity},
    )
    prompts = {
        "model_type": "SentenceTransformer",
        "__version__": {"sentence_transformers": "5.1.0", "transformers": "4.57.0.dev0", "pytorch": "2.8.0+cu128"},
        "prompts": GEMMA,
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }
    modules = [("2_Dense", "Dense", wide), ("3_Dense", "Dense", back), ("4_Normalize", "Normalize", {})]
    files(folder, "mean_tokens", modules, prompts)
    for seed, (path, config) in enumerate((("2_Dense", wide), ("3_Dense", back))):
        shape = (config["out_features"], config["in_features"])
        weight = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) / 8
        save_file({"linear.weight": weight}, folder / path / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("name", ["qwen", "gemma"])
def test_every_call(tmp_path: Path, name: str) -> None:
    {"qwen": qwen, "gemma": gemma}[name](tmp_path)
    ours, theirs = aerogel.SentenceTransformer(str(tmp_path)), library.SentenceTransformer(str(tmp_path), device="cpu")
    plain = aerogel.load(tmp_path)
    assert ours.max_seq_length == theirs.max_seq_length and ours.prompts == theirs.prompts
    assert ours.similarity_fn_name == theirs.similarity_fn_name == plain.similarity_fn_name == "cosine"
    found: list[np.ndarray] = []
    for call in ("encode", "encode_query", "encode_document"):
        for options in ({}, {"truncate_dim": 16}, {"prompt": "x: "}, {"prompt_name": "query"}):
            expected = getattr(theirs, call)(TEXTS, **options)
            found.append(expected)
            np.testing.assert_allclose(getattr(ours, call)(TEXTS, **options), expected, atol=2e-5)
            np.testing.assert_allclose(getattr(plain, call)(TEXTS, **options), expected, atol=2e-5)
        np.testing.assert_allclose(getattr(ours, call)(TEXTS[0]), getattr(theirs, call)(TEXTS[0]), atol=2e-5)
    assert abs(found[0] - found[4]).max() > 0.01  # the prompt matters
    queries, documents = ours.encode_query(TEXTS[:2]), ours.encode_document(TEXTS)
    expected = theirs.similarity(theirs.encode_query(TEXTS[:2]), theirs.encode_document(TEXTS)).numpy()
    np.testing.assert_allclose(np.asarray(ours.similarity(queries, documents)), expected, atol=2e-5)
    pairs = theirs.similarity_pairwise(documents, documents[[3, 2, 1, 0]]).numpy()
    np.testing.assert_allclose(
        np.asarray(ours.similarity_pairwise(documents, documents[[3, 2, 1, 0]])), pairs, atol=2e-5
    )
    for name in ("dot", "euclidean", "manhattan"):
        ours.similarity_fn_name = theirs.similarity_fn_name = name
        expected = theirs.similarity(queries, documents).numpy()
        np.testing.assert_allclose(np.asarray(ours.similarity(queries, documents)), expected, atol=1e-4)
    aerogel.compress(tmp_path, tmp_path / "packed", quant="none")
    np.testing.assert_allclose(aerogel.load(tmp_path / "packed").encode_query(TEXTS), found[4], atol=2e-5)


def test_texts_that_a_chat_template_writes(tmp_path: Path) -> None:
    """As sentence-transformers saves an embedding model that began as one for chats; a prompt is what the system says."""
    qwen(tmp_path / "m")
    entry = {"method": "forward", "method_output_name": "last_hidden_state"}
    said = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings", "max_seq_length": 90}
    said |= {"modality_config": {"text": entry, "message": {**entry, "format": "flat"}}}
    said |= {"processing_kwargs": {"chat_template": {"add_generation_prompt": True}}}
    (tmp_path / "m" / "sentence_bert_config.json").write_text(json.dumps(said))
    template = rerankers.CHAT.replace('("user", "assistant")', '("user", "assistant", "system")')
    (tmp_path / "m" / "chat_template.jinja").write_text(template)
    (tmp_path / "t.txt").write_text("\n".join(f"a text about {i}" for i in range(30)))
    theirs = library.SentenceTransformer(str(tmp_path / "m"), device="cpu")
    aerogel.compress(tmp_path / "m", tmp_path / "packed", quant="none", sparsity=0.0, calibrate=tmp_path / "t.txt")
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    again = library.SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    for call in ("encode", "encode_query"):
        expected = getattr(theirs, call)(TEXTS)
        for folder in ("m", "packed"):
            np.testing.assert_allclose(getattr(aerogel.load(tmp_path / folder), call)(TEXTS), expected, atol=2e-5)
        np.testing.assert_allclose(getattr(again, call)(TEXTS), expected, atol=2e-5)
    tokens = aerogel.load(tmp_path / "m").token_embeddings(TEXTS[0], prompt="why")
    found = theirs.encode(TEXTS[0], prompt="why", output_value="token_embeddings").numpy()
    np.testing.assert_allclose(tokens, found, atol=1e-4)
