"""GGUF files of decoders, as llama.cpp's converter writes them, against the folders that they are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import aerogel

from ..checkpoint.gguf import files
from ..checkpoint.tiny_files import interleave
from . import decoders

pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
pytest.importorskip("transformers", reason="Transformers is not installed")

NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OTHERS = {
    "attention.query_key_value": "attn_qkv",
    "attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "self_attn.dense": "attn_output",
    "operator_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    "self_attn.out_proj": "attn_output",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "conv.in_proj": "shortconv.in_proj",
    "conv.conv": "shortconv.conv",
    "conv.out_proj": "shortconv.out_proj",
}
POST_NORMS = {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"}
WHOLE = {
    "cls.output": "cls.output",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "model.embedding_norm": "token_embd_norm",
    "model.final_layernorm": "output_norm",
    "gpt_neox.embed_in": "token_embd",
    "gpt_neox.final_layer_norm": "output_norm",
    "embed_out": "output",
    "lm_head": "output",
}
#: llama.cpp turns their heads pair by pair, so its converter stores queries and keys that way.
INTERLEAVED = ("llama", "granite", "smollm3")
#: What a config calls the number that norms add to the variance -> what GGUF does.
EPS = {
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "norm_eps": "attention.layer_norm_rms_epsilon",
    "norm_epsilon": "attention.layer_norm_epsilon",
    "layer_norm_eps": "attention.layer_norm_epsilon",
}
GRANITE = {
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "attention_multiplier": "attention.scale",
    "logits_scaling": "logit_scale",
}


def written(path: Path, arch: str, config: Mapping[str, Any], weights: Mapping[str, np.ndarray], **more: Any) -> Path:
    """The file of a folder; `more` metadata below the architecture's name."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config.get("num_key_value_heads")}
    tensors = {}
    for name, array in weights.items():
        stem, _, part = name.rpartition(".")
        if stem in WHOLE:
            tensors[f"{WHOLE[stem]}.{part}"] = array
            continue
        _, _, number, inner = stem.split(".", 3)
        short = {**NAMES, **OTHERS, **(POST_NORMS if arch in ("olmo2", "exaone4") else {})}[inner]
        if "query_key_value" in inner:  # laid one behind the other
            array = np.concatenate(array.reshape(config["num_attention_heads"], 3, -1, *array.shape[1:]).swapaxes(0, 1))
            array = array.reshape(-1, *array.shape[2:])
        array = array[:, 0] if array.ndim == 3 else array  # ggml's convolution wants two axes
        stored = interleave(array, heads[short]) if arch in INTERLEAVED and short in heads else array
        tensors[f"blk.{number}.{short}.{part}"] = stored
    rope = config["rope_parameters"]
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    metadata = {
        **more,
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "block_count": config["num_hidden_layers"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config.get("num_key_value_heads") or config["num_attention_heads"],
        **{EPS[key]: config[key] for key in EPS if key in config},
        "context_length": config["max_position_embeddings"],
        "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": int(width * rope.get("partial_rotary_factor", 1.0)),
        **{key: float(config[name]) for name, key in GRANITE.items() if arch == "granite"},
    }
    if arch == "lfm2":
        heads = [config["num_key_value_heads"] if kind == "full_attention" else 0 for kind in config["layer_types"]]
        metadata |= {"attention.head_count_kv": heads, "shortconv.l_cache": config["conv_L_cache"]}
        metadata["feed_forward_length"] = len(weights["model.layers.0.feed_forward.w1.weight"])
    if arch == "exaone4" and config["sliding_window"]:
        metadata["attention.sliding_window"] = config["sliding_window"]
        metadata["attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in config["layer_types"]]
    if arch in ("stablelm", "gptneox"):
        metadata["use_parallel_residual"] = config["use_parallel_residual"]
    if arch == "phi3":
        metadata["rope.scaling.original_context_length"] = config["original_max_position_embeddings"]
        metadata["attention.sliding_window"] = config["sliding_window"] or 0
        if rope["rope_type"] == "longrope":
            stretch = config["max_position_embeddings"] / config["original_max_position_embeddings"]
            log = np.log(stretch) / np.log(config["original_max_position_embeddings"])
            metadata["rope.scaling.attn_factor"] = float(np.sqrt(1 + log))
            for kind in ("long", "short"):
                tensors[f"rope_factors_{kind}.weight"] = np.array(rope[f"{kind}_factor"], np.float32)
    elif config.get("head_dim"):
        metadata["attention.key_length"] = metadata["attention.value_length"] = width
    entries = {f"{arch}.{key}": value for key, value in metadata.items() if not key.startswith("tokenizer.")}
    entries |= {key: value for key, value in metadata.items() if key.startswith("tokenizer.")}
    return files.write(path, arch, {**entries, **files.tokenizer_of(arch, config["vocab_size"])}, tensors)


CASES = {
    "llama": "llama, biases",
    "llama, of mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3, tied",
    "smollm3": "smollm3",
    "granite": "granite",
    "phi3": "phi3, a part of each head",
    "phi3, window": "phi3, window",
    "phi3, longrope": "phi3, longrope",
    "olmo2": "olmo2",
    "exaone4": "exaone4",
    "exaone4, windows": "exaone4, windows",
    "starcoder2": "starcoder2",
    "stablelm": "stablelm",
    "stablelm, side by side": "stablelm, side by side",
    "phi2": "phi",
    "gptneox": "gpt_neox",
    "lfm2": "lfm2",
    "lfm2, biases": "lfm2, biases",
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_is_the_folder_that_it_is_made_of(tmp_path: Path, case: str) -> None:
    model_type, changed = decoders.VARIANTS[CASES[case]]
    if case == "exaone4, windows":
        changed = {key: value for key, value in changed.items() if key != "rope_parameters"}  # as factors, in a file
    if model_type == "smollm3":
        changed = {"no_rope_layer_interval": 4, "num_hidden_layers": 4}  # llama.cpp knows no other
    arch = case.split(",")[0]
    decoders.made(tmp_path / "m", model_type, {**changed, "vocab_size": 264})
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    path = written(tmp_path / "m.gguf", arch, config, load_file(tmp_path / "m" / "model.safetensors"))
    file, folder = aerogel.load(path), aerogel.load(tmp_path / "m")
    batch = decoders.sequences()
    for output in ("logits", "hidden"):
        # numbers of the metadata are stored in 32 bits
        np.testing.assert_allclose(
            file.forward(batch, output=output), folder.forward(batch, output=output), atol=2e-5, rtol=1e-5
        )
    aerogel.compress(path, tmp_path / "packed", sparsity=0.0, quant="int8")
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    aerogel.export(path, tmp_path / "whole")
    np.testing.assert_allclose(
        aerogel.load(tmp_path / "whole").forward(batch), folder.forward(batch), atol=2e-5, rtol=1e-5
    )


def test_biases_of_queries_keys_and_values_only(tmp_path: Path) -> None:
    """In a file of the llama kind: such a model is Qwen2's in everything but name."""
    decoders.made(tmp_path / "m", "qwen2", {"vocab_size": 264})
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    path = written(tmp_path / "m.gguf", "llama", config, load_file(tmp_path / "m" / "model.safetensors"))
    np.testing.assert_array_equal(
        aerogel.load(path).forward([5, 6, 7, 8]), aerogel.load(tmp_path / "m").forward([5, 6, 7, 8])
    )


def test_an_embedding_model(tmp_path: Path) -> None:
    """As Qwen3-Embedding's files are: a language model with a pooling of the last token."""
    net = decoders.made(tmp_path / "m", "qwen3", {"vocab_size": 264, "head_dim": 16, "tie_word_embeddings": True})
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    weights = load_file(tmp_path / "m" / "model.safetensors")
    model = aerogel.load(written(tmp_path / "m.gguf", "qwen3", config, weights, pooling_type=3))
    ids = model.tokenizer.encode(["ab c"])[0]
    expected = decoders.hidden(net, list(ids))[-1]
    np.testing.assert_allclose(model.encode("ab c"), expected / np.linalg.norm(expected), atol=1e-5)


def test_a_reranker(tmp_path: Path) -> None:
    """As Qwen3-Reranker's files are: of the head only the rows of "yes" and "no", as a classifier of the last token."""
    net = decoders.made(tmp_path / "m", "qwen3", {"vocab_size": 264, "head_dim": 16, "tie_word_embeddings": True})
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    weights = load_file(tmp_path / "m" / "model.safetensors")
    yes, no = 77, 33
    weights["cls.output.weight"] = weights["model.embed_tokens.weight"][[yes, no]]
    more = {"pooling_type": 4, "classifier.output_labels": ["yes", "no"]}
    model = aerogel.load(written(tmp_path / "m.gguf", "qwen3", config, weights, **more))
    ids = list(model.tokenizer.encode(["ab c"])[0])
    logits = decoders.logits(net, ids)[-1]
    np.testing.assert_allclose(model.scores("ab c"), [logits[yes] - logits[no]], atol=1e-4)
    assert model.labels == ["LABEL_0"]
    ids = list(model.tokenizer.encode_pair(["ab"], ["c"])[0][0])  # without a template, as llama.cpp has it then
    logits = decoders.logits(net, ids)[-1]
    assert model.predict(("ab", "c")) == pytest.approx(1 / (1 + np.exp(logits[no] - logits[yes])), abs=1e-5)


@pytest.mark.parametrize("quant", [None, "int8"])
def test_a_reranker_with_its_template(tmp_path: Path, quant: str | None) -> None:
    """llama.cpp's template has places for the texts; its score is the probability of "yes" among the two rows."""
    net = decoders.made(tmp_path / "m", "qwen3", {"vocab_size": 264, "head_dim": 16, "tie_word_embeddings": True})
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    weights = load_file(tmp_path / "m" / "model.safetensors")
    weights["cls.output.weight"] = weights["model.embed_tokens.weight"][[77, 33]]
    template = 'a "b": {query} c{document}<d> \\ }\n\n'
    chat = "tokenizer.chat_template"
    more = {"pooling_type": 4, chat: "{{ messages[0].content }}", chat + ".rerank": template}
    path = written(tmp_path / "m.gguf", "qwen3", config, weights, **more, **{"classifier.output_labels": ["yes", "no"]})
    model = aerogel.load(path, quant=quant)
    pairs = [("ab", "ba c"), ("{document}", "a")]
    scores = []
    for query, document in pairs:
        text = template.replace("{document}", document).replace("{query}", query)
        logits = decoders.logits(net, list(model.tokenizer.encode([text], special=False)[0]))[-1]
        scores.append(1 / (1 + np.exp(logits[33] - logits[77])))
    np.testing.assert_allclose(model.predict(pairs), scores, atol=1e-5 if quant is None else 0.02)
    if quant is None:
        aerogel.compress(path, tmp_path / "packed", quant="none")
        aerogel.export(tmp_path / "packed", tmp_path / "plain")
        for folder in ("packed", "plain"):
            np.testing.assert_allclose(aerogel.load(tmp_path / folder).predict(pairs), scores, atol=1e-5)
