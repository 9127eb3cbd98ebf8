"""Packed models: what aerogel writes. An ordinary Hugging Face folder whose config.json says

    "quantization_config": {"quant_method": "aerogel", "format_version": 4, ...}

and whose model.safetensors stores each parameter P as

    dense float32     P          F32 [...]
    dense bf16        P          BF16 [N,K]
    dense int8        P          I8 [N,K]             P_scale   F32 [N]
    sparse float32    P_bitmask  U8 [N, ceil(K/8)]    P_values  F32 [stored]
    sparse bf16       P_bitmask  U8 [N, ceil(K/8)]    P_values  BF16 [stored]
    sparse int8       P_bitmask  U8 [N, ceil(K/8)]    P_values  I8 [stored]     P_scale  F32 [N]

and, since version 2, where int8 codes have a scale each group of columns, or are indices of a few levels,

    int8 of groups    P_group    I64 [1]                   P_scale       F32 [N, ceil(K/group)], the rest as above
    dense indices     P_packed   U8 [N, ceil(K*bits/8)]    P_scale       F32 [N]    P_levels  I8 [1 to 256]
    sparse indices    P_packed   U8 [ceil(stored*bits/8)]  P_bitmask     and the same
    of groups, too    P_group    I64 [1]                   P_multiplier  U8 and perhaps P_zero I8 [N, ceil(K/group)]
                                                           or, since version 4, P_offset I8 of that shape

Any matrix may have P_input_limit, F32 [1]: a linear with it quantizes its input by the fixed int8 scale limit / 127
instead of one a token, see `Checkpoint.input_limit`.

Bit k%8 of byte k//8 in a row of the mask says that column k is stored; values are in row-major order; codes are in
[-127, 127]. Indices take as few bits as tell the levels apart, least significant first; P_index instead of P_packed has
one byte for each ([N,K] or [stored]). With g = k // group

    code[n,k] = (levels[index[n,k]] - zero[n,g]) * multiplier[n,g] + offset[n,g]        w[n,k] = code[n,k] * scale[n]

K is 8 times the mask's columns, or what fills the bytes of packed indices, unless P_shape (I64 [2]) says [N, K]. Any
U8 or I8 tensor X may be compressed instead, as X_small (see `aerogel.checkpoint.packed.small`); here it looks plain.

Since version 3 every tensor has a checksum, and so have the other files (`aerogel.checkpoint.checksums`).

Shapes and types are checked when the file is opened; what needs a look at the data (as many values as mask bits, finite
numbers, codes and indices in range) when a weight is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aerogel.checkpoint.config import check_config
from aerogel.errors import CheckpointError

FORMAT_VERSION = 4
#: Since this one there are checksums.
CHECKED_VERSION = 3
QUANT_METHOD = "aerogel"
#: Suffixes of the tensors that hold a matrix parameter.
BITMASK, VALUES, SCALE, SHAPE = "_bitmask", "_values", "_scale", "_shape"
INDEX, PACKED, LEVELS, MULTIPLIER, ZERO, GROUP = "_index", "_packed", "_levels", "_multiplier", "_zero", "_group"
OFFSET = "_offset"
INPUT_LIMIT = "_input_limit"


def check_format(config: dict[str, Any], where: object) -> int:
    """The version of the packed model that the config announces; CheckpointError unless this code reads it."""
    check_config(config, where)
    quantization = config.get("quantization_config")
    if not isinstance(quantization, dict) or quantization.get("quant_method") != QUANT_METHOD:
        raise CheckpointError(f"{where}: quantization_config: expected quant_method {QUANT_METHOD!r}")
    version = quantization.get("format_version")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{where}: format_version: expected a positive whole number, got {version!r:.80}")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{where}: format_version: expected at most {FORMAT_VERSION}, got {version}: "
            "the model was packed by a newer aerogel"
        )
    return version


def is_packed(folder: Path) -> bool:
    """Whether the folder holds a packed model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return bool(config["quantization_config"]["quant_method"] == QUANT_METHOD)
    except (OSError, ValueError, KeyError, TypeError):
        return False
