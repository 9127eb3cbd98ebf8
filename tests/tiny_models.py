"""Tiny random models, written as the folders that people have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "under",
    "mat",
    "tree",
    "big",
    "small",
    "red",
    "blue",
    "and",
    "not",
]

BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 100,
    "vocab_size": 5 + len(WORDS) + 60,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 100,
    "vocab_size": 3 + len(WORDS),
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _random(shapes, seed):
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        if "norm" in name.lower() and name.endswith("weight"):
            weights[name] = (1 + 0.1 * random.standard_normal(shape)).astype(np.float32)
        else:
            weights[name] = (0.3 * random.standard_normal(shape)).astype(np.float32)
    return weights


def bert_weights(config, seed=0):
    """Parameters under the names that Hugging Face saves for the base model."""
    h, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (v, h),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], h),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], h),
        "embeddings.LayerNorm.weight": (h,),
        "embeddings.LayerNorm.bias": (h,),
    }

    def linear(name, n, k):
        shapes[name + ".weight"], shapes[name + ".bias"] = (n, k), (n,)

    for i in range(config["num_hidden_layers"]):
        t = f"encoder.layer.{i}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            linear(t + name, h, h)
        linear(t + "intermediate.dense", f, h)
        linear(t + "output.dense", h, f)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[t + name + ".weight"] = shapes[t + name + ".bias"] = (h,)
    linear("pooler.dense", h, h)
    head = config["architectures"][0]
    if head == "BertForSequenceClassification":
        linear("classifier", len(config["id2label"]), h)
    if head == "BertForMaskedLM":
        del shapes["pooler.dense.weight"], shapes["pooler.dense.bias"]
        linear("cls.predictions.transform.dense", h, h)
        for part in ("weight", "bias"):
            shapes[f"cls.predictions.transform.LayerNorm.{part}"] = (h,)
        shapes["cls.predictions.bias"] = (v,)
    return _random(shapes, seed)


def llama_weights(config, seed=0):
    """Parameters relative to the base model (what Hugging Face saves behind "model.")."""
    h, f, d = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    a, g = config["num_attention_heads"], config["num_key_value_heads"]
    shapes = {"embed_tokens.weight": (config["vocab_size"], h)}
    for i in range(config["num_hidden_layers"]):
        t = f"layers.{i}."
        shapes[t + "input_layernorm.weight"] = shapes[t + "post_attention_layernorm.weight"] = (h,)
        for p, n in (("q", a * d), ("k", g * d), ("v", g * d)):
            shapes[t + f"self_attn.{p}_proj.weight"] = (n, h)
            if config["model_type"] == "qwen2" or config.get("attention_bias"):
                shapes[t + f"self_attn.{p}_proj.bias"] = (n,)
        if config["model_type"] in ("qwen3", "olmo2"):
            each = config["model_type"] == "qwen3"  # each head by itself, or all of them together
            for p, n in (("q", a * d), ("k", g * d)):
                shapes[t + f"self_attn.{p}_norm.weight"] = (d if each else n,)
        if config["model_type"] == "olmo2":
            shapes[t + "post_feedforward_layernorm.weight"] = shapes.pop(t + "input_layernorm.weight")
        shapes[t + "self_attn.o_proj.weight"] = (h, a * d)
        if config.get("attention_bias"):
            shapes[t + "self_attn.o_proj.bias"] = (h,)
        for p, n, k in (("gate", f, h), ("up", f, h), ("down", h, f)):
            shapes[t + f"mlp.{p}_proj.weight"] = (n, k)
            if config.get("mlp_bias"):
                shapes[t + f"mlp.{p}_proj.bias"] = (n,)
    shapes["norm.weight"] = (h,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], h)
    return _random(shapes, seed)


def write(folder: Path, config, weights, tokenizer=True, prefix="", pooling=None) -> Path:
    """A Hugging Face folder; `pooling` = (mode, normalize) makes it a sentence-transformers one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    base = ("embeddings.", "encoder.", "pooler.", "layers.", "embed_tokens.", "norm.")
    save_file({(prefix if n.startswith(base) else "") + n: a for n, a in weights.items()}, folder / "model.safetensors")
    if tokenizer:
        (wordpiece if config["model_type"] == "bert" else word_level)(folder, config["vocab_size"])
    if pooling is not None:
        mode, normalize = pooling
        kinds = ["Transformer", "Pooling"] + (["Normalize"] if normalize else [])
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(zip(kinds, ["", "1_Pooling", "2_Normalize"], strict=False))
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        flag = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "last": "lasttoken"}[mode]
        pooling_config = {"word_embedding_dimension": config["hidden_size"], f"pooling_mode_{flag}": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling_config))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32, "do_lower_case": False}))
    return folder


def wordpiece(folder: Path, vocab_size: int) -> None:
    """A BERT tokenizer over WORDS and single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters[1:], *["##" + c for c in letters]]
    tokens += [f"[unused{i}]" for i in range(vocab_size - len(tokens))]
    (folder / "vocab.txt").write_text("\n".join(tokens[:vocab_size]) + "\n")


def word_level(folder: Path, vocab_size: int) -> None:
    """One token a word, no special tokens added."""
    vocab = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", *WORDS][:vocab_size])}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    special = [{"id": i, "content": t, **flags, "special": True} for t, i in vocab.items() if t.startswith("<")]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def byte_level(folder: Path) -> None:
    """The 256 bytes as tokens, in byte-level BPE without merges, behind <s> and </s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}, []))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


def byte_llama(folder: Path) -> Path:
    """A random model of bytes: 44 rows of its embeddings stand for no token."""
    config = {**LLAMA, "vocab_size": 302, "bos_token_id": 0, "eos_token_id": 1, "max_position_embeddings": 256}
    write(folder, config, llama_weights(config), prefix="model.", tokenizer=False)
    byte_level(folder)
    return folder
