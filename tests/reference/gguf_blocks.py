"""GGUF's block types, decoded number by number: ggml's dequantize_row functions in Python, without the gguf package.

`decode(kind, data)` takes the bytes of whole blocks. The types whose codes index tables of thousands of entries (IQ1, IQ2,
IQ3) are not here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

_IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_MXFP4 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # twice what they stand for


def half(data: bytes, at: int) -> float:
    return struct.unpack_from("<e", data, at)[0]


def signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def q4_0(b: bytes) -> list[float]:
    d, q = half(b, 0), b[2:]
    return [d * ((x & 15) - 8) for x in q] + [d * ((x >> 4) - 8) for x in q]


def q4_1(b: bytes) -> list[float]:
    d, m, q = half(b, 0), half(b, 2), b[4:]
    return [d * (x & 15) + m for x in q] + [d * (x >> 4) + m for x in q]


def q5_0(b: bytes) -> list[float]:
    d, high, q = half(b, 0), int.from_bytes(b[2:6], "little"), b[6:]
    low = [x & 15 for x in q] + [x >> 4 for x in q]
    return [d * ((x | (high >> j & 1) << 4) - 16) for j, x in enumerate(low)]


def q5_1(b: bytes) -> list[float]:
    d, m, high, q = half(b, 0), half(b, 2), int.from_bytes(b[4:8], "little"), b[8:]
    low = [x & 15 for x in q] + [x >> 4 for x in q]
    return [d * (x | (high >> j & 1) << 4) + m for j, x in enumerate(low)]


def q8_0(b: bytes) -> list[float]:
    return [half(b, 0) * signed(x) for x in b[2:]]


def q2_k(b: bytes) -> list[float]:
    scales, q, d, dmin = b[:16], b[16:80], half(b, 80), half(b, 82)
    y = []
    for i in range(256):  # 128 at a time: 32 bytes, 4 shifts; each 16 have a scale and a minimum of 4 bits
        part, shift, column = i // 128, i % 128 // 32, i % 32
        s = scales[i // 16]
        y.append(d * (s & 15) * (q[32 * part + column] >> 2 * shift & 3) - dmin * (s >> 4))
    return y


def q3_k(b: bytes) -> list[float]:
    mask, q, s, d = b[:32], b[32:96], b[96:108], half(b, 108)
    y = []
    for i in range(256):
        part, shift, column, k = i // 128, i % 128 // 32, i % 32, i // 16
        low = s[k] & 15 if k < 8 else s[k - 8] >> 4
        scale = (low | (s[8 + k % 4] >> 2 * (k // 4) & 3) << 4) - 32
        code = q[32 * part + column] >> 2 * shift & 3
        y.append(d * scale * (code - (0 if mask[column] >> (4 * part + shift) & 1 else 4)))
    return y


def _scale_min(s: bytes, k: int) -> tuple[int, int]:
    if k < 4:
        return s[k] & 63, s[k + 4] & 63
    return s[k + 4] & 15 | s[k - 4] >> 6 << 4, s[k + 4] >> 4 | s[k] >> 6 << 4


def q4_k(b: bytes) -> list[float]:
    d, dmin, s, q = half(b, 0), half(b, 2), b[4:16], b[16:]
    y = []
    for i in range(256):
        scale, low = _scale_min(s, i // 32)
        y.append(d * scale * (q[i // 64 * 32 + i % 32] >> 4 * (i // 32 % 2) & 15) - dmin * low)
    return y


def q5_k(b: bytes) -> list[float]:
    d, dmin, s, high, q = half(b, 0), half(b, 2), b[4:16], b[16:48], b[48:]
    y = []
    for i in range(256):
        scale, low = _scale_min(s, i // 32)
        code = q[i // 64 * 32 + i % 32] >> 4 * (i // 32 % 2) & 15 | (high[i % 32] >> i // 32 & 1) << 4
        y.append(d * scale * code - dmin * low)
    return y


def q6_k(b: bytes) -> list[float]:
    low, high, scales, d = b[:128], b[128:192], b[192:208], half(b, 208)
    y = []
    for i in range(256):
        part, quarter, column = i // 128, i % 128 // 32, i % 32
        code = low[64 * part + 32 * (quarter % 2) + column] >> 4 * (quarter // 2) & 15
        code |= (high[32 * part + column] >> 2 * quarter & 3) << 4
        y.append(d * signed(scales[i // 16]) * (code - 32))
    return y


def tq1_0(b: bytes) -> list[float]:
    d = half(b, 52)
    y = []
    for part, digits in ((b[:32], 5), (b[32:48], 5), (b[48:52], 4)):  # 5 ternary digits a byte, as a fraction
        for n in range(digits):
            y += [d * (((x * 3**n & 255) * 3 >> 8) - 1) for x in part]
    return y


def tq2_0(b: bytes) -> list[float]:
    d = half(b, 64)
    return [d * ((b[32 * part + m] >> 2 * n & 3) - 1) for part in range(2) for n in range(4) for m in range(32)]


def iq4_nl(b: bytes) -> list[float]:
    d, q = half(b, 0), b[2:]
    return [d * _IQ4[x & 15] for x in q] + [d * _IQ4[x >> 4] for x in q]


def iq4_xs(b: bytes) -> list[float]:
    d, high, low, q = half(b, 0), int.from_bytes(b[2:4], "little"), b[4:8], b[8:]
    y = []
    for i in range(8):
        scale = (low[i // 2] >> 4 * (i % 2) & 15 | (high >> 2 * i & 3) << 4) - 32
        part = q[16 * i : 16 * i + 16]
        y += [d * scale * _IQ4[x & 15] for x in part] + [d * scale * _IQ4[x >> 4] for x in part]
    return y


def mxfp4(b: bytes) -> list[float]:
    d = 2.0 ** (b[0] - 128)
    return [d * _MXFP4[x & 15] for x in b[1:]] + [d * _MXFP4[x >> 4] for x in b[1:]]


def f32(b: bytes) -> list[float]:
    return list(struct.unpack("<f", b))


def f16(b: bytes) -> list[float]:
    return [half(b, 0)]


def bf16(b: bytes) -> list[float]:
    return list(struct.unpack("<f", bytes(2) + b))


#: Name of the type -> (elements of a block, its bytes, how it is decoded, where its float16 numbers stand).
BLOCKS: dict[str, tuple[int, int, Callable[[bytes], list[float]], tuple[int, ...]]] = {
    "F32": (1, 4, f32, ()),
    "F16": (1, 2, f16, (0,)),
    "BF16": (1, 2, bf16, ()),
    "Q4_0": (32, 18, q4_0, (0,)),
    "Q4_1": (32, 20, q4_1, (0, 2)),
    "Q5_0": (32, 22, q5_0, (0,)),
    "Q5_1": (32, 24, q5_1, (0, 2)),
    "Q8_0": (32, 34, q8_0, (0,)),
    "Q2_K": (256, 84, q2_k, (80, 82)),
    "Q3_K": (256, 110, q3_k, (108,)),
    "Q4_K": (256, 144, q4_k, (0, 2)),
    "Q5_K": (256, 176, q5_k, (0, 2)),
    "Q6_K": (256, 210, q6_k, (208,)),
    "TQ1_0": (256, 54, tq1_0, (52,)),
    "TQ2_0": (256, 66, tq2_0, (64,)),
    "IQ4_NL": (32, 18, iq4_nl, (0,)),
    "IQ4_XS": (256, 136, iq4_xs, (0,)),
    "MXFP4": (32, 17, mxfp4, ()),
}


def decode(kind: str, data: bytes) -> np.ndarray:
    """float64 [elements]."""
    _, size, block, _ = BLOCKS[kind]
    return np.array([y for at in range(0, len(data), size) for y in block(data[at : at + size])])


def random_blocks(kind: str, count: int, rng: np.random.Generator) -> bytes:
    """Any codes, with scales of ordinary size."""
    _, size, _, halves = BLOCKS[kind]
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in halves:
        scale = (rng.standard_normal(count) * 2.0).astype("<f2")
        data[:, at : at + 2] = scale.view(np.uint8).reshape(count, 2)
    if kind == "MXFP4":
        data[:, 0] = rng.integers(100, 140, count)
    if kind in ("F32", "BF16"):
        floats = np.frombuffer(rng.standard_normal(count).astype("<f4").tobytes(), np.uint8).reshape(count, 4)
        data[:] = floats[:, -size:]
    return data.tobytes()
