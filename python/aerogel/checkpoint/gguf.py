"""GGUF files, as llama.cpp uses them: one file with config, tokenizer and (usually quantized) weights.

Weights are decoded to float32. Metadata becomes a Hugging Face style config and tensor names become Hugging Face's, one
table per architecture; adding one is adding its row to `ARCHITECTURES`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aerogel.checkpoint.base import Checkpoint, Weight, check_finite, check_matrix
from aerogel.checkpoint.config import check_config
from aerogel.checkpoint.gguf_file import GGUFFile
from aerogel.checkpoint.gguf_tokenizer import tokenizer_from_metadata
from aerogel.checkpoint.pooling import Pooling
from aerogel.checkpoint.tokenizer import Tokenizer
from aerogel.errors import CheckpointError, ConfigError, MissingTensorsError, UnsupportedModelError

_POOLING = {1: "mean", 2: "cls", 3: "last"}


def detect(path: Path) -> bool:
    """A .gguf file, or a folder with exactly one and no safetensors."""
    return _file(path) is not None


def read(path: Path) -> GGUFCheckpoint:
    """Opens the file, or the one in the folder."""
    return GGUFCheckpoint(_file(path) or path)


def _file(path: Path) -> Path | None:
    if path.suffix == ".gguf":
        return path
    if path.is_file():
        with path.open("rb") as file:
            return path if file.read(4) == b"GGUF" else None
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1 and not list(path.glob("*.safetensors")):
        names = ", ".join(file.name for file in found)
        raise CheckpointError(f"{path}: expected one .gguf file, found {names}: give the path of one")
    return found[0] if len(found) == 1 and not list(path.glob("*.safetensors")) else None


class GGUFCheckpoint(Checkpoint):
    """A GGUF file's weights, decoded to float32 one at a time."""

    kind: ClassVar[str] = "gguf"

    def __init__(self, path: Path) -> None:
        self._file = GGUFFile(path)
        metadata = self._file.metadata
        name = metadata.get("general.architecture")
        if name not in ARCHITECTURES:
            raise UnsupportedModelError(
                f"{path}: general.architecture: expected one of {', '.join(ARCHITECTURES)}, got {name!r:.80}"
            )
        if metadata.get("split.count", 1) != 1:
            raise UnsupportedModelError(
                f"{path}: this is one of {metadata['split.count']} parts: merge them first (llama-gguf-split --merge)"
            )
        architecture = ARCHITECTURES[name]
        config = _Reader(self._file, name).config(architecture)
        super().__init__(path, config)
        self._stored = _translate(self._file, architecture)
        self._heads = {
            "attn_q": config["num_attention_heads"] if architecture.interleaved else 0,
            "attn_k": config.get("num_key_value_heads", 0) if architecture.interleaved else 0,
        }

    def names(self) -> list[str]:
        return self._names

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self._stored)

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def shape(self, name: str) -> tuple[int, ...]:
        return self._file.tensors[self._find(name)].shape

    def array(self, name: str) -> NDArray[np.float32]:
        stored = self._find(name)
        heads = self._heads.get(stored.split(".")[-2], 0)
        # A bias is one row to the file, but its elements are the rows that interleave.
        if heads and len(self.shape(name)) == 1:
            flat = self._file.float32(stored)
            if flat.size % (2 * heads):
                raise CheckpointError(f"{self.path}: {stored}: expected {heads} heads, got {flat.size} elements")
            values = flat.reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
        else:
            values = self._file.float32(stored, heads)
        check_finite(f"{self.path}: {stored}", values)
        return values

    def weight(self, name: str) -> Weight:
        shape = check_matrix(f"{self.path}: {name}", self.shape(name))
        return Weight(shape, self.array(name))

    @property
    def pooling(self) -> Pooling | None:
        mode = _POOLING.get(self._file.metadata.get(f"{self.config['model_type']}.pooling_type", 0))
        return Pooling(mode, normalize=True) if mode else None

    def _load_tokenizer(self) -> Tokenizer:
        return tokenizer_from_metadata(self._file.metadata, self.path)

    def _find(self, name: str) -> str:
        stored = self._stored.get(name)
        if stored is None:
            raise MissingTensorsError(self.path, [name])
        return stored


@dataclass(frozen=True)
class _Architecture:
    """How one GGUF architecture translates.

    Attributes:
        keys: config key -> metadata key without the architecture's prefix.
        defaults: config entries that the metadata does not carry.
        tensors: name outside the blocks -> Hugging Face name.
        blocks: name inside block N -> Hugging Face name with {n}.
        interleaved: rows of Q and K stand interleaved for llama.cpp's rotary embedding.
        finish: completes the config from the file.
    """

    keys: dict[str, str]
    defaults: dict[str, Any]
    tensors: dict[str, str]
    blocks: dict[str, str]
    interleaved: bool = False
    finish: Callable[[GGUFFile, dict[str, Any]], None] = lambda file, config: None
    ignored: tuple[str, ...] = field(default=())


class _Reader:
    """Reads metadata with its types checked."""

    def __init__(self, file: GGUFFile, prefix: str) -> None:
        self._file = file
        self._prefix = prefix

    def config(self, architecture: _Architecture) -> dict[str, Any]:
        metadata = self._file.metadata
        config: dict[str, Any] = dict(architecture.defaults)
        for key, suffix in architecture.keys.items():
            value = metadata.get(f"{self._prefix}.{suffix}")
            if value is not None:
                # Floats are stored in 32 bits: the shortest number that means the same, 1e-05 and not 9.99999974e-06.
                config[key] = float(str(np.float32(value))) if isinstance(value, float) else value
        missing = [
            f"{self._prefix}.{architecture.keys[key]}"
            for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
            if key not in config
        ]
        if missing:
            raise ConfigError(f"{self._file.path}: metadata is missing: {', '.join(missing)}")
        for key in ("bos_token_id", "eos_token_id", "padding_token_id"):
            value = metadata.get(f"tokenizer.ggml.{key}")
            if value is not None:
                config[key.replace("padding", "pad")] = value
        embedding = self._file.tensors.get("token_embd.weight")
        if embedding is None:
            raise MissingTensorsError(self._file.path, ["token_embd.weight"])
        config["vocab_size"] = embedding.shape[0]
        check_config(config, self._file.path)
        architecture.finish(self._file, config)
        return config


def _translate(file: GGUFFile, architecture: _Architecture) -> dict[str, str]:
    """Hugging Face name -> name in the file. A tensor that no table knows means that the model computes something else."""
    result: dict[str, str] = {}
    unknown = []
    for name in file.tensors:
        block = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
        target = architecture.blocks.get(block[2]) if block else architecture.tensors.get(name)
        if target is not None:
            result[target.format(n=block[1]) if block else target] = name
        elif name not in architecture.ignored:
            unknown.append(name)
    if unknown:
        shown = ", ".join(unknown[:8]) + (", ..." if len(unknown) > 8 else "")
        raise UnsupportedModelError(f"{file.path}: {len(unknown)} tensors of unknown meaning: {shown}")
    return result


def _finish_decoder(file: GGUFFile, config: dict[str, Any]) -> None:
    prefix = file.metadata["general.architecture"]
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    if heads < 1 or hidden % heads and "head_dim" not in config:
        raise ConfigError(f"{file.path}: expected a width that {heads} heads divide, got {hidden}")
    config.setdefault("num_key_value_heads", heads)
    config.setdefault("head_dim", hidden // heads)
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    rotated = file.metadata.get(f"{prefix}.rope.dimension_count", config["head_dim"])
    if rotated != config["head_dim"]:
        raise UnsupportedModelError(
            f"{file.path}: expected rotary embeddings over all {config['head_dim']} dimensions of a head, got {rotated!r}"
        )
    scaling = file.metadata.get(f"{prefix}.rope.scaling.type", "none")
    if scaling != "none":
        config["rope_scaling"] = {
            "rope_type": scaling,
            "factor": file.metadata.get(f"{prefix}.rope.scaling.factor", 1.0),
        }
    if "rope_freqs.weight" in file.tensors:
        config["rope_scaling"] = _llama3_scaling(file, config)


def _llama3_scaling(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    """The rope_scaling of Llama 3.1 and later, recovered from the factors by which GGUF stores its result."""
    factors = file.float32("rope_freqs.weight").astype(np.float64)
    scaling = {
        "rope_type": "llama3",
        "factor": float(factors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    half = config["head_dim"] // 2
    wavelength = 2 * math.pi * config["rope_theta"] ** (np.arange(half) / half)
    smooth = np.clip((8192 / wavelength - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    expected = 1.0 / ((1.0 - smooth) / scaling["factor"] + smooth)
    if factors.shape != (half,) or not np.allclose(factors, expected, rtol=1e-3):
        raise UnsupportedModelError(f"{file.path}: rope_freqs.weight: expected the factors of Llama 3, got others")
    return scaling


def _finish_bert(file: GGUFFile, config: dict[str, Any]) -> None:
    types = file.tensors.get("token_types.weight")
    config["type_vocab_size"] = types.shape[0] if types else 0


_DECODER_KEYS = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
_DECODER_TENSORS = {
    "token_embd.weight": "embed_tokens.weight",
    "output_norm.weight": "norm.weight",
    "output.weight": "lm_head.weight",
}
_DECODER_BLOCKS = {
    "attn_norm.weight": "layers.{n}.input_layernorm.weight",
    "attn_q.weight": "layers.{n}.self_attn.q_proj.weight",
    "attn_q.bias": "layers.{n}.self_attn.q_proj.bias",
    "attn_k.weight": "layers.{n}.self_attn.k_proj.weight",
    "attn_k.bias": "layers.{n}.self_attn.k_proj.bias",
    "attn_v.weight": "layers.{n}.self_attn.v_proj.weight",
    "attn_v.bias": "layers.{n}.self_attn.v_proj.bias",
    "attn_output.weight": "layers.{n}.self_attn.o_proj.weight",
    "attn_output.bias": "layers.{n}.self_attn.o_proj.bias",
    "ffn_norm.weight": "layers.{n}.post_attention_layernorm.weight",
    "ffn_gate.weight": "layers.{n}.mlp.gate_proj.weight",
    "ffn_up.weight": "layers.{n}.mlp.up_proj.weight",
    "ffn_down.weight": "layers.{n}.mlp.down_proj.weight",
}
_BERT_BLOCKS = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}

ARCHITECTURES = {
    "llama": _Architecture(
        keys=_DECODER_KEYS,
        defaults={
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
        },
        tensors=_DECODER_TENSORS,
        blocks=_DECODER_BLOCKS,
        interleaved=True,
        finish=_finish_decoder,
        ignored=("rope_freqs.weight",),
    ),
    "qwen2": _Architecture(
        keys=_DECODER_KEYS,
        defaults={
            "model_type": "qwen2",
            "architectures": ["Qwen2ForCausalLM"],
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "use_sliding_window": False,
        },
        tensors=_DECODER_TENSORS,
        blocks=_DECODER_BLOCKS,
        finish=_finish_decoder,
    ),
    "bert": _Architecture(
        keys={
            "hidden_size": "embedding_length",
            "intermediate_size": "feed_forward_length",
            "num_hidden_layers": "block_count",
            "num_attention_heads": "attention.head_count",
            "max_position_embeddings": "context_length",
            "layer_norm_eps": "attention.layer_norm_epsilon",
        },
        defaults={
            "model_type": "bert",
            "architectures": ["BertModel"],
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "position_embedding_type": "absolute",
        },
        tensors={
            "token_embd.weight": "embeddings.word_embeddings.weight",
            "position_embd.weight": "embeddings.position_embeddings.weight",
            "token_types.weight": "embeddings.token_type_embeddings.weight",
            "token_embd_norm.weight": "embeddings.LayerNorm.weight",
            "token_embd_norm.bias": "embeddings.LayerNorm.bias",
        },
        blocks={
            f"{short}.{part}": f"encoder.layer.{{n}}.{long}.{part}"
            for short, long in _BERT_BLOCKS.items()
            for part in ("weight", "bias")
        },
        finish=_finish_bert,
    ),
}
