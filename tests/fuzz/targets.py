"""Readers of files from outside, as functions of bytes: for pytest, and for a coverage-guided fuzzer.

Each target writes the bytes to a file, opens it as a user would and reads everything in it. Files may be broken in any way:
an AerogelError is the only answer to that. Whatever else a target raises is a fault of ours.

`seeds_...` give small sound files to start from, made here.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np

from aerogel.architectures import architecture_of
from aerogel.checkpoint import Checkpoint, open_checkpoint
from aerogel.checkpoint.gguf import read as read_gguf
from aerogel.checkpoint.gguf.file import GGUFFile
from aerogel.checkpoint.packed.small import SmallSafetensorsWriter
from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.errors import AerogelError

from ..checkpoint import tiny_files
from ..checkpoint.gguf import files

#: Text that reaches every part of a tokenizer.
_TEXT = "hello wörld 123\n 漢🙂"


def fuzz_gguf(data: bytes) -> None:
    """A GGUF file: every tensor, the model that it makes, its tokenizer."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of overflows in the gguf package, where scales are any bytes
        path = Path(folder) / "m.gguf"
        path.write_bytes(data)
        try:
            file = GGUFFile(path)
        except AerogelError:
            return
        for name, tensor in file.tensors.items():
            try:
                values = file.float32(name)
            except AerogelError:
                continue
            assert values.shape == tensor.shape and values.dtype == np.float32
        try:
            checkpoint = read_gguf(path)
        except AerogelError:
            return
        _read(checkpoint)
        try:
            tokenizer = checkpoint.tokenizer()
            tokenizer.decode(tokenizer.encode([_TEXT])[0])
        except AerogelError:
            pass


def fuzz_safetensors(data: bytes) -> None:
    """A safetensors file: every tensor as it is stored, and as floats."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        path.write_bytes(data)
        try:
            file = SafetensorsFile(path)
        except AerogelError:
            return
        for name, entry in file.entries.items():
            for read in (file.raw, file.float32):
                try:
                    assert read(name).shape == entry.shape
                except AerogelError:
                    pass


def fuzz_packed(data: bytes) -> None:
    """The weights of a packed model, whose other files are sound: every parameter, decoded."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = {
            **tiny_files.CONFIG,
            "quantization_config": {**tiny_files.PACKED, "format_version": 2},
        }  # without checksums: damage is to reach what reads
        tiny_files.write_json(folder / "config.json", config)
        (folder / "model.safetensors").write_bytes(data)
        try:
            checkpoint = open_checkpoint(folder)
        except AerogelError:
            return
        _read(checkpoint)


def _read(checkpoint: Checkpoint) -> None:
    for name in checkpoint.names():
        for read in (checkpoint.array, lambda name: checkpoint.weight(name).dense()):
            try:
                assert read(name).shape == checkpoint.shape(name)
            except AerogelError:
                pass
        try:
            checkpoint.input_limit(name)
        except AerogelError:
            pass
    try:
        architecture_of(checkpoint)
    except AerogelError:
        pass


# -- what to start from


def seeds_gguf() -> list[bytes]:
    """A file of many types of blocks and metadata, a model of each architecture, and a SentencePiece vocabulary."""
    kinds = ("F32", "F16", "BF16", "Q4_0", "Q5_1", "Q8_0", "Q2_K", "Q6_K", "IQ1_S", "IQ4_XS", "TQ1_0", "MXFP4")
    tensors = {}
    for kind in kinds:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
        blocks = np.arange(2 * size, dtype=np.uint8).reshape(2, size) % 60
        tensors[f"{kind}.weight"] = (blocks, gguf.GGMLQuantizationType[kind])
    entries = {"a": 1, "b": "text", "c": ["x", "yz"], "d": [1.5, 2.5], "e": True}
    small = {"hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2}
    pieces = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "<0x0A>", "\u2581", "h", "e", "he", "\u2581he"],
        "tokenizer.ggml.token_type": [2, 3, 3, 6, 1, 1, 1, 1, 1],
        "tokenizer.ggml.scores": [0.0, 0.0, 0.0, 0.0, -3.0, -4.0, -5.0, -1.0, -2.0],
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.pre": None,
        "tokenizer.ggml.unknown_token_id": 0,
        "llama.pooling_type": 3,
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 2.0,
        "llama.rope.scaling.original_context_length": 16,
        "llama.rope.scaling.attn_factor": 1.0,
        "llama.rope.scaling.yarn_log_multiplier": 0.1,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        found = [files.write(path, "any", entries, tensors).read_bytes()]
        for arch, config in files.CONFIGS.items():
            more = {"num_key_value_heads": 1, "head_dim": 4} if arch != "bert" else {}
            config = {**config, **small, **more, "max_position_embeddings": 8, "vocab_size": 9}
            found.append(files.write_model(path, arch, config).read_bytes())
        config = {**files.CONFIGS["llama"], **small, "num_key_value_heads": 1, "head_dim": 4, "vocab_size": 9}
        found.append(files.write_model(path, "llama", config, metadata=pieces).read_bytes())
    return found


def seeds_safetensors() -> list[bytes]:
    arrays = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "h": np.arange(4, dtype=np.float16),
        "i": np.array([-127, 127, 0, 1], np.int8),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(2.5, np.float32),
    }
    return [
        tiny_files.tensor_bytes(arrays, bf16=("h",)),
        tiny_files.tensor_bytes({}),
        tiny_files.with_header({"__metadata__": {"format": "pt"}}, b""),
    ]


def seeds_packed() -> list[bytes]:
    """Dense, sparse, groups, indices of levels, fixed inputs, and bytes under the entropy coder."""
    rng = np.random.default_rng(0)
    name = "encoder.layer.0.attention.self.{}.weight"
    codes = rng.integers(-127, 128, (8, 24)).astype(np.int8)
    codes[rng.random(codes.shape) < 0.6] = 0
    scale = (rng.random(8) + 0.1).astype(np.float32)
    limit = np.array([3.0], np.float32)
    tensors: dict[str, np.ndarray] = {
        name.format("query"): codes,
        name.format("query") + "_scale": scale,
        name.format("query") + "_input_limit": limit,
        **tiny_files.pack_matrix(name.format("key"), codes, scale),
        **tiny_files.pack_matrix(name.format("value"), codes[:, :21].astype(np.float32)),
        "output.weight": codes,
        "output.weight_scale": np.ones((8, 3), np.float32),
        "output.weight_group": np.array([8], np.int64),
        "up.weight_packed": rng.integers(0, 256, (8, 12), dtype=np.uint8),
        "up.weight_levels": np.arange(16, dtype=np.int8),
        "up.weight_scale": scale,
        "up.weight_group": np.array([8], np.int64),
        "up.weight_multiplier": np.full((8, 3), 4, np.uint8),
        "up.weight_zero": np.full((8, 3), 8, np.int8),
        "up.weight_offset": np.full((8, 3), -3, np.int8),
        "down.weight_index": rng.integers(0, 3, (8, 5), dtype=np.uint8),
        "down.weight_levels": np.array([-3, 0, 5], np.int8),
        "down.weight_scale": scale,
        "norm.bias": scale,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        writer = SmallSafetensorsWriter(path)
        for key, array in tensors.items():
            writer.add(key, np.repeat(array, 40, axis=0) if key == "output.weight" else array)
        writer.close({})
        coded = path.read_bytes()
    assert b"_small" in coded
    return [tiny_files.tensor_bytes(tensors), coded, tiny_files.tensor_bytes(tiny_files.bert_tensors())]


TARGETS: Mapping[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "gguf": (fuzz_gguf, seeds_gguf),
    "safetensors": (fuzz_safetensors, seeds_safetensors),
    "packed": (fuzz_packed, seeds_packed),
}
