"""Small whole numbers side by side in bytes: `bits` (1 to 8) each, least significant first, without gaps."""

from __future__ import annotations

import numpy as np

#: What one more tensor costs in a file's header, about: a mask has to save more than its own entry and that of a shape.
ENTRY_BYTES = 256


def bits_for(count: int) -> int:
    """Bits that tell `count` things apart, at least 1."""
    return max(1, (count - 1).bit_length())


def mask_pays(shape: tuple[int, int], zeros: int, bits: int) -> bool:
    """Whether a matrix [N,K] with this many zeros takes less behind a mask than as `bits` for each element."""
    n, k = shape
    return zeros * bits > 8 * (n * -(-k // 8) + ENTRY_BYTES)


def pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """uint8 [..., count], each below 2^bits, as uint8 [..., ceil(count * bits / 8)]; each last axis starts on a byte,
    and what is left of its last byte is 0.
    """
    if bits == 8:
        return np.ascontiguousarray(values)
    if bits == 4:
        packed: np.ndarray = values[..., ::2].copy()
        high = values[..., 1::2]
        packed[..., : high.shape[-1]] |= high << 4
        return packed
    each = np.unpackbits(np.ascontiguousarray(values)[..., None], axis=-1, count=bits, bitorder="little")
    return np.packbits(each.reshape(*values.shape[:-1], values.shape[-1] * bits), axis=-1, bitorder="little")


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The other way: uint8 [..., count]."""
    if bits == 8:
        return packed[..., :count]
    if bits == 4:
        values = np.empty((*packed.shape[:-1], 2 * packed.shape[-1]), np.uint8)
        values[..., ::2] = packed & 15
        values[..., 1::2] = packed >> 4
        return values[..., :count]
    each = np.unpackbits(packed, axis=-1, count=count * bits, bitorder="little").reshape(
        *packed.shape[:-1], count, bits
    )
    return np.packbits(each, axis=-1, bitorder="little")[..., 0]
