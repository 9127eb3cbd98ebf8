"""Models of a few hundred numbers, written on the fly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "hello", "world", "##s", ",", "!", "ä"]
HIDDEN, INNER, HEADS, LAYERS = 8, 16, 2, 1

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "vocab_size": len(VOCAB),
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}

_TYPES = {"f4": "F32", "f2": "F16", "f8": "F64", "i1": "I8", "u1": "U8", "i4": "I32", "i8": "I64"}


def tensor_bytes(arrays: Mapping[str, np.ndarray], bf16: tuple[str, ...] = ()) -> bytes:
    """A safetensors file, written independently of the reader and of the safetensors package."""
    header: dict[str, Any] = {}
    data = b""
    for name, array in arrays.items():
        dtype = "BF16" if name in bf16 else _TYPES[array.dtype.str[1:]]
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    return with_header(header, data)


def with_header(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def bert_tensors(prefix: str = "", seed: int = 0) -> dict[str, np.ndarray]:
    """All parameters of a BERT with one layer."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(VOCAB), HIDDEN),
        "embeddings.position_embeddings.weight": (16, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    for part, n, k in (
        ("attention.self.query", HIDDEN, HIDDEN),
        ("attention.self.key", HIDDEN, HIDDEN),
        ("attention.self.value", HIDDEN, HIDDEN),
        ("attention.output.dense", HIDDEN, HIDDEN),
        ("intermediate.dense", INNER, HIDDEN),
        ("output.dense", HIDDEN, INNER),
    ):
        shapes[f"encoder.layer.0.{part}.weight"] = (n, k)
        shapes[f"encoder.layer.0.{part}.bias"] = (n,)
    for part in ("attention.output", "output"):
        shapes[f"encoder.layer.0.{part}.LayerNorm.weight"] = (HIDDEN,)
        shapes[f"encoder.layer.0.{part}.LayerNorm.bias"] = (HIDDEN,)
    return {prefix + name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_tokenizer(folder: Path, **settings: Any) -> None:
    """A tokenizer.json with, as in many published ones, padding and truncation left on."""
    from aerogel.checkpoint.tokenizer import wordpiece

    backend = wordpiece(VOCAB, lowercase=True, where="test")
    backend.enable_padding(length=12)
    backend.enable_truncation(4)
    backend.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", settings)


def write_bert(
    folder: Path, arrays: Mapping[str, np.ndarray] | None = None, config: Mapping[str, Any] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {**CONFIG, **(config or {})})
    (folder / "model.safetensors").write_bytes(tensor_bytes(bert_tensors() if arrays is None else arrays))
    write_tokenizer(folder)
    return folder


def pack_matrix(name: str, matrix: np.ndarray, scale: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The sparse form of a matrix, element by element."""
    n, k = matrix.shape
    mask = np.zeros((n, -(-k // 8)), np.uint8)
    values = []
    for row in range(n):
        for column in range(k):
            if matrix[row, column] != 0:
                mask[row, column // 8] |= 1 << (column % 8)
                values.append(matrix[row, column])
    parts = {f"{name}_values": np.array(values, matrix.dtype), f"{name}_bitmask": mask}
    if k % 8:
        parts[f"{name}_shape"] = np.array([n, k], np.int64)
    if scale is not None:
        parts[f"{name}_scale"] = scale
    return parts


PACKED = {"quant_method": "aerogel", "format_version": 1, "aerogel_version": "0.0.0", "recipe": {}}


def write_packed(folder: Path, arrays: Mapping[str, np.ndarray], **quantization: Any) -> Path:
    return write_bert(folder, arrays, {"quantization_config": {**PACKED, **quantization}})


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows as GGUF's llama family stores Q and K: within a head, row i of the first half, then row i of the second."""
    size = rows.shape[0] // heads
    order = [h * size + half * (size // 2) + i for h in range(heads) for i in range(size // 2) for half in range(2)]
    return rows[order]


def write_gguf(
    path: Path,
    arch: str = "llama",
    tied: bool = True,
    biases: bool = False,
    extra: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
    tokenizer: bool = True,
    quant: gguf.GGMLQuantizationType | None = None,
) -> dict[str, np.ndarray]:
    """A GGUF decoder of one layer, written by the gguf package. Returns its tensors in Hugging Face's form."""
    hidden, inner, heads, kv_heads, dim = 64, 96, 4, 2, 16
    rng = np.random.default_rng(1)
    tokens, types, merges = byte_level_vocabulary()

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    layer = "layers.0."
    tensors = {
        "embed_tokens.weight": random(len(tokens), hidden),
        "norm.weight": random(hidden),
        layer + "input_layernorm.weight": random(hidden),
        layer + "post_attention_layernorm.weight": random(hidden),
        layer + "self_attn.q_proj.weight": random(heads * dim, hidden),
        layer + "self_attn.k_proj.weight": random(kv_heads * dim, hidden),
        layer + "self_attn.v_proj.weight": random(kv_heads * dim, hidden),
        layer + "self_attn.o_proj.weight": random(hidden, heads * dim),
        layer + "mlp.gate_proj.weight": random(inner, hidden),
        layer + "mlp.up_proj.weight": random(inner, hidden),
        layer + "mlp.down_proj.weight": random(hidden, inner),
    }
    if biases:
        tensors[layer + "self_attn.q_proj.bias"] = random(heads * dim)
        tensors[layer + "self_attn.k_proj.bias"] = random(kv_heads * dim)
        tensors[layer + "self_attn.v_proj.bias"] = random(kv_heads * dim)
    if not tied:
        tensors["lm_head.weight"] = random(len(tokens), hidden)
    names = {
        "embed_tokens": "token_embd",
        "norm": "output_norm",
        "lm_head": "output",
        layer + "input_layernorm": "blk.0.attn_norm",
        layer + "post_attention_layernorm": "blk.0.ffn_norm",
        layer + "self_attn.q_proj": "blk.0.attn_q",
        layer + "self_attn.k_proj": "blk.0.attn_k",
        layer + "self_attn.v_proj": "blk.0.attn_v",
        layer + "self_attn.o_proj": "blk.0.attn_output",
        layer + "mlp.gate_proj": "blk.0.ffn_gate",
        layer + "mlp.up_proj": "blk.0.ffn_up",
        layer + "mlp.down_proj": "blk.0.ffn_down",
    }
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges(merges)
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(1)
    for key, value in (metadata or {}).items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_float32(key, value)
    for name, array in tensors.items():
        stem, _, part = name.rpartition(".")
        stored = array
        if arch == "llama" and ("q_proj" in name or "k_proj" in name):
            stored = interleave(array, heads if "q_proj" in name else kv_heads)
        if quant is not None and array.ndim == 2:
            writer.add_tensor(f"{names[stem]}.{part}", gguf.quants.quantize(stored, quant), raw_dtype=quant)
        else:
            writer.add_tensor(f"{names[stem]}.{part}", stored)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def byte_level_vocabulary() -> tuple[list[str], list[int], list[str]]:
    """Two control tokens, every byte, and a few merges."""
    from aerogel.checkpoint.decoding import byte_alphabet

    merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "1 2"]
    tokens = ["<|start|>", "<|end|>", *byte_alphabet(), *(merge.replace(" ", "") for merge in merges)]
    return tokens, [3, 3] + [1] * (len(tokens) - 2), merges
