"""The compressed-tensors format element by element: numbers packed bit by bit, masks, and what they all mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_TYPES = {"f4": "F32", "f2": "F16", "i1": "I8", "u1": "U8", "i4": "I32", "i8": "I64", "f8": "F64"}


class Typed(NamedTuple):
    """An array whose type NumPy does not have: BF16 as uint16, F8_E4M3 and F8_E5M2 as uint8."""

    array: np.ndarray
    dtype: str


Tensors = Mapping[str, "np.ndarray | Typed"]


def bf16(values: np.ndarray) -> Typed:
    """Cut, not rounded: the values of tests are few bits wide."""
    return Typed((np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16), "BF16")


def safetensors(tensors: Tensors) -> bytes:
    header: dict[str, Any] = {}
    data = b""
    for name, value in tensors.items():
        array, dtype = value if isinstance(value, Typed) else (value, _TYPES[value.dtype.str[1:]])
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def write(folder: Path, config: Mapping[str, Any], tensors: Tensors) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(safetensors(tensors))
    return folder


def compression(weights: Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
    """A quantization_config with one group, of all linears."""
    groups = {} if weights is None else {"group_0": {"targets": ["Linear"], "weights": dict(weights)}}
    return {
        "quant_method": "compressed-tensors",
        "version": "0.9.4",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "global_compression_ratio": 1.5,
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "config_groups": groups,
        **more,
    }


def words_of(numbers: np.ndarray, bits: int, stream: bool) -> np.ndarray:
    """q [R, C] as int32 words, one bit after the other."""
    lanes = 32 // bits
    rows = []
    for row in numbers:
        width = -(-len(row) * bits // 32) if stream else -(-len(row) // lanes)
        total = 0
        for i, q in enumerate(row):
            unsigned = int(q) + 2 ** (bits - 1)
            assert 0 <= unsigned < 2**bits
            position = i * bits if stream else i // lanes * 32 + i % lanes * bits
            for bit in range(bits):
                total |= (unsigned >> bit & 1) << (position + bit)
        rows.append([total >> 32 * word & 0xFFFFFFFF for word in range(width)])
    return np.array(rows, np.uint32).reshape(len(numbers), -1).view(np.int32)


def mask_of(stored: np.ndarray) -> np.ndarray:
    """bool [R, C] as uint8 [R, ceil(C/8)]."""
    mask = np.zeros((stored.shape[0], -(-stored.shape[1] // 8)), np.uint8)
    for r, c in np.argwhere(stored):
        mask[r, c // 8] |= 1 << (c % 8)
    return mask


def _split(value: np.ndarray | Typed) -> tuple[np.ndarray, Any]:
    return (value.array, lambda a: Typed(a, value.dtype)) if isinstance(value, Typed) else (value, lambda a: a)


def behind_mask(name: str, value: np.ndarray | Typed, old: bool = False) -> dict[str, Any]:
    """sparse-bitmask: M.weight becomes M.compressed and so on, or as before 0.9.0 M.weight.compressed."""
    array, typed = _split(value)
    prefix = name if old else name.removesuffix(".weight")
    rows = array.reshape(-1, array.shape[-1])
    stored = rows != 0
    offsets, count = [], 0
    for row in stored:
        offsets.append(count)
        count += int(row.sum())
    mask = mask_of(stored)
    return {
        f"{prefix}.compressed": typed(np.array([v for v in rows.reshape(-1) if v != 0], array.dtype)),
        f"{prefix}.bitmask": mask if array.ndim > 1 else mask[0],
        f"{prefix}.row_offsets": np.array(offsets, np.int64) if array.ndim > 1 else np.array(0, np.int64),
        f"{prefix}.shape": np.array(array.shape, np.int64),
    }


def two_of_four(name: str, value: np.ndarray | Typed) -> dict[str, Any]:
    """sparse-24-bitmask: of each four the two with nonzero values, filled up from the left."""
    array, typed = _split(value)
    stored = np.zeros(array.shape, bool)
    for r in range(array.shape[0]):
        for c in range(0, array.shape[1], 4):
            four = sorted(range(c, c + 4), key=lambda i: (array[r, i] == 0, i))
            assert not array[r, four[2:]].any()
            stored[r, four[:2]] = True
    prefix = name.removesuffix(".weight")
    return {
        f"{prefix}.compressed": typed(array[stored].reshape(array.shape[0], -1)),
        f"{prefix}.bitmask": mask_of(stored),
        f"{prefix}.shape": np.array([[size] for size in array.shape], np.int64),
    }


def decode(
    q: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray | None,
    strategy: str,
    group: int = 0,
    block: tuple[int, int] = (0, 0),
    order: np.ndarray | None = None,
) -> np.ndarray:
    """w = (q - zero) * scale in float32, element by element."""
    w = np.zeros(q.shape, np.float32)
    for r in range(q.shape[0]):
        for c in range(q.shape[1]):
            place = {
                "tensor": (0,),
                "channel": (r, 0),
                "group": (r, (c // group if order is None else order[c]) if group else 0),
                "block": (r // block[0] if block[0] else 0, c // block[1] if block[1] else 0),
            }[strategy]
            zp = np.float32(0) if zero is None else np.float32(zero[place])
            w[r, c] = (np.float32(q[r, c]) - zp) * np.float32(scale[place])
    return w


def e4m3(code: int) -> float:
    code = int(code)  # not NumPy's, which would overflow
    sign, exponent, fraction = -1 if code & 128 else 1, code >> 3 & 15, code & 7
    if exponent == 15 and fraction == 7:
        return float("nan")
    return sign * (2.0 ** (exponent - 7) * (1 + fraction / 8) if exponent else 2.0**-6 * fraction / 8)


def e5m2(code: int) -> float:
    code = int(code)  # not NumPy's, which would overflow
    sign, exponent, fraction = -1 if code & 128 else 1, code >> 2 & 31, code & 3
    if exponent == 31:
        return float("nan") if fraction else sign * float("inf")
    return sign * (2.0 ** (exponent - 15) * (1 + fraction / 4) if exponent else 2.0**-14 * fraction / 4)
