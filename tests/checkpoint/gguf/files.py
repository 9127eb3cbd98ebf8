"""GGUF files for the tests: whole models by the gguf package's writer, and broken ones byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from ... import tiny_models
from ..tiny_files import byte_level_vocabulary, interleave

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
#: Value type -> struct code of those that have one size.
SCALARS = dict(zip((U8, I8, U16, I16, U32, I32, F32, BOOL, U64, I64, F64), "BbHhIif?Qqd", strict=True))


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def value(kind: int, data: bytes) -> bytes:
    return struct.pack("<I", kind) + data


def scalar(kind: int, number: Any) -> bytes:
    return value(kind, struct.pack("<" + SCALARS[kind], number))


def array(kind: int, items: Sequence[bytes]) -> bytes:
    return value(ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(items))


def info(name: str | bytes, shape: Sequence[int], kind: int, offset: int) -> bytes:
    """A tensor's entry; `shape` is row-major."""
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, offset)


def raw(
    metadata: Iterable[tuple[str | bytes, bytes]] = (),
    tensors: Iterable[bytes] = (),
    data: bytes = b"",
    *,
    alignment: int = 32,
    version: int = 3,
    tensor_count: int | None = None,
    metadata_count: int | None = None,
) -> bytes:
    """A file of ready entries: whatever is wrong with them goes in as it is."""
    metadata, tensors = list(metadata), list(tensors)
    head = b"GGUF" + struct.pack(
        "<IQQ",
        version,
        len(tensors) if tensor_count is None else tensor_count,
        len(metadata) if metadata_count is None else metadata_count,
    )
    head += b"".join(string(key) + entry for key, entry in metadata) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


class Typed:
    """A metadata value of this type, and not the one that `write` would choose."""

    def __init__(self, value: Any, kind: gguf.GGUFValueType, items: gguf.GGUFValueType | None = None) -> None:
        self.value, self.kind, self.items = value, kind, items


def write(
    path: Path, arch: str, metadata: Mapping[str, Any], tensors: Mapping[str, Any], alignment: int | None = None
) -> Path:
    """A file by the package's writer. A tensor is an array, or a pair of encoded blocks and their type.

    Metadata: whole numbers become u32, floats f32. None leaves a key out.
    """
    path.unlink(missing_ok=True)  # some file systems flush a file that is truncated and written again
    writer = gguf.GGUFWriter(str(path), arch)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for key, entry in metadata.items():
        if isinstance(entry, Typed):
            writer.add_key_value(key, entry.value, entry.kind, entry.items)
        elif isinstance(entry, bool):
            writer.add_bool(key, entry)
        elif isinstance(entry, int):
            writer.add_uint32(key, entry)
        elif isinstance(entry, float):
            writer.add_float32(key, entry)
        elif isinstance(entry, str):
            writer.add_string(key, entry)
        elif entry is not None:
            writer.add_array(key, entry)
    for name, tensor in tensors.items():
        blocks, kind = tensor if isinstance(tensor, tuple) else (tensor, None)
        writer.add_tensor(name, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


#: general.architecture -> a config of that family, in which no two widths are equal by chance.
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": tiny_models.BERT,
    "llama": {**tiny_models.LLAMA, "vocab_size": 264, "head_dim": 16, "rope_theta": 500000.0},
    "qwen2": {
        **tiny_models.LLAMA,
        "vocab_size": 264,
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
    },
}


def weights_of(config: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """All parameters that the config describes, under Hugging Face's names."""
    make = tiny_models.bert_weights if config["model_type"] == "bert" else tiny_models.llama_weights
    return {name: array for name, array in make(config, seed).items() if not name.startswith("pooler.")}


_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
}
_BLOCK_NAMES = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """What llama.cpp calls a parameter of Hugging Face's."""
    stem, _, part = name.rpartition(".")
    if stem in _NAMES:
        return f"{_NAMES[stem]}.{part}"
    prefix = next(p for p in ("encoder.layer.", "layers.") if stem.startswith(p))
    number, _, stem = stem.removeprefix(prefix).partition(".")
    return f"blk.{number}.{_BLOCK_NAMES[stem]}.{part}"


def metadata_of(arch: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as llama.cpp's converter writes it."""
    found = {
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "block_count": config["num_hidden_layers"],
        "attention.head_count": config["num_attention_heads"],
        "context_length": config["max_position_embeddings"],
    }
    if arch == "bert":
        found["attention.layer_norm_epsilon"] = config["layer_norm_eps"]
        found["attention.causal"] = False
    else:
        found["attention.head_count_kv"] = config["num_key_value_heads"]
        found["attention.key_length"] = found["attention.value_length"] = config["head_dim"]
        found["attention.layer_norm_rms_epsilon"] = config["rms_norm_eps"]
        found["rope.freq_base"] = config["rope_theta"]
    return {f"{arch}.{key}": value for key, value in found.items()}


def tensors_of(arch: str, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters as llama.cpp's converter writes them: for "llama", rows of Q and K interleaved, their biases too."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config.get("num_key_value_heads", 0)}
    found = {}
    for name, weight in weights.items():
        count = heads.get(name.split(".")[-2], 0) if arch == "llama" else 0
        found[gguf_name(name)] = interleave(weight, count) if count else weight
    return found


def tokenizer_of(arch: str, size: int) -> dict[str, Any]:
    """A vocabulary of that size: WordPiece for BERT, else byte level."""
    if arch == "bert":
        letters = "abcdefghijklmnopqrstuvwxyz"
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        words = ["\u2581" + word for word in (*tiny_models.WORDS, *letters[1:])] + list(letters)
        tokens = [*special, *words]
        tokens = (tokens + [f"[unused{i}]" for i in range(size)])[:size]
        types = [3 if token in special else 1 for token in tokens]
        return {
            "tokenizer.ggml.model": "bert",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": types,
            "tokenizer.ggml.padding_token_id": 0,
        }
    tokens, types, merges = byte_level_vocabulary()
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }


def write_model(
    path: Path,
    arch: str,
    config: Mapping[str, Any] | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    without: Iterable[str] = (),
) -> Path:
    """A whole model.

    Args:
        path: of the file.
        arch: `general.architecture`.
        config: Hugging Face's; None: the tiny one of CONFIGS.
        weights: by Hugging Face's names; None: random ones.
        metadata: more of it, or other values; None takes a key out.
        extra: more tensors, or others, by their names in the file.
        without: tensors to leave out, by their names in the file.
    """
    config = CONFIGS[arch] if config is None else config
    weights = weights_of(config) if weights is None else weights
    tensors = {**tensors_of(arch, config, weights), **(extra or {})}
    for name in without:
        del tensors[name]
    entries = {**metadata_of(arch, config), **tokenizer_of(arch, config["vocab_size"]), **(metadata or {})}
    return write(path, arch, entries, tensors)


def quantized(values: np.ndarray, kind: Type) -> tuple[np.ndarray, Type]:
    return gguf.quants.quantize(values, kind), kind
