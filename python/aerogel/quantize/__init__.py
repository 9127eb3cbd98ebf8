"""Quantization: float32 weights [N,K] into codes with scales, or left as they are.

A scheme is one pure function `weight -> Quantized`. A new scheme is one file and one row in SCHEMES.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aerogel.errors import RecipeError
from aerogel.quantize.base import Quantized
from aerogel.quantize.bf16 import bf16
from aerogel.quantize.int8 import int8
from aerogel.quantize.none import none

__all__ = ["SCHEMES", "Quantized", "bf16", "int8", "none", "scheme"]

SCHEMES: dict[str, Callable[[np.ndarray], Quantized]] = {"int8": int8, "bf16": bf16, "none": none}


def scheme(name: str) -> Callable[[np.ndarray], Quantized]:
    """The quantization scheme called `name`."""
    if name not in SCHEMES:
        raise RecipeError(f"quantization scheme {name!r} is unknown, only {', '.join(SCHEMES)}")
    return SCHEMES[name]
