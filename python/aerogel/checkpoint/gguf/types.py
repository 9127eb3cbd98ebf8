"""ggml's types of tensors: their names, and the elements and bytes of a block.

Those that run here are known here; the `gguf` package, which takes a while and some memory to import, is asked for others.
"""

from __future__ import annotations

from typing import NamedTuple

from aerogel._core import block_types
from aerogel.errors import UnsupportedModelError

#: Numbers of the types of `_core.block_types`, and of plain ones with their bytes.
_BLOCKS = {
    "Q4_0": 2,
    "Q4_1": 3,
    "Q5_0": 6,
    "Q5_1": 7,
    "Q8_0": 8,
    "Q2_K": 10,
    "Q3_K": 11,
    "Q4_K": 12,
    "Q5_K": 13,
    "Q6_K": 14,
    "IQ4_NL": 20,
    "IQ4_XS": 23,
    "MXFP4": 39,
}
_PLAIN = {"F32": (0, 4), "F16": (1, 2), "BF16": (30, 2)}


class GGMLType(NamedTuple):
    """A type's name, and how many elements and bytes a block of it has."""

    name: str
    elements: int
    bytes: int


KNOWN = {number: GGMLType(name, 1, size) for name, (number, size) in _PLAIN.items()} | {
    _BLOCKS[name]: GGMLType(name, *size) for name, size in block_types().items() if name in _BLOCKS
}


def type_of(number: int) -> GGMLType | None:
    """The type of this number; None: there is none.

    Raises:
        UnsupportedModelError: only the gguf package may know it, which is not installed.
    """
    if number in KNOWN:
        return KNOWN[number]
    try:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError as error:
        raise UnsupportedModelError(
            f"reading tensors of type {number} of a GGUF file needs the gguf package: pip install gguf"
        ) from error
    try:
        kind = GGMLQuantizationType(number)
        return GGMLType(kind.name, *GGML_QUANT_SIZES[kind])
    except (ValueError, KeyError):
        return None
