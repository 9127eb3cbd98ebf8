"""Quantization: float32 weights [N,K] into codes with scales, or left as they are.

A scheme fits a grid to a matrix (scales, zero points, codebooks); the grid rounds weights to the values on it, a few
columns at a time where a method compensates the errors of the columns before. A new scheme is one file and one row in
SCHEMES.

    int8             one scale per output channel                        int8.py
    int8:gN          one per N columns of it
    int4:gN          4 bits, one step per N columns                      int4.py
    int4:gN:asym     with offsets; int4 is int4:g32:asym
    codebook:N       N values per matrix, 4 to 256                       codebook.py
    bf16             the upper half of a float32                         bf16.py
    none             float32 as it is                                    none.py
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from aerogel._util.checks import text
from aerogel.errors import RecipeError
from aerogel.quantize.bf16 import Bf16
from aerogel.quantize.codebook import Codebook
from aerogel.quantize.grid import Grid, Quantized, Scheme
from aerogel.quantize.int4 import Int4
from aerogel.quantize.int8 import Int8
from aerogel.quantize.none import Unquantized

__all__ = ["SCHEMES", "Grid", "Quantized", "Scheme", "bf16", "int8", "none", "of_tables", "quantize", "scheme"]

#: Columns that may share a scale.
GROUPS = (32, 64, 128)

int8, bf16, none = Int8(), Bf16(), Unquantized()


def _int8(options: list[str]) -> Scheme:
    return Int8(_group(options.pop(0))) if options else int8


def _int4(options: list[str]) -> Scheme:
    if not options:  # the best of them, in 4.55 bits
        return Int4(32, asymmetric=True)
    group = _group(options.pop(0)) if options[0].startswith("g") else 64
    asymmetric = options[:1] == ["asym"]
    del options[:asymmetric]
    return Int4(group, asymmetric)


def _codebook(options: list[str]) -> Scheme:
    entries = options.pop(0) if options else "16"
    if not re.fullmatch(r"[0-9]{1,3}", entries) or not 4 <= int(entries) <= 256:
        raise RecipeError(f"expected 4 to 256 entries, got {entries!r}")
    return Codebook(int(entries))


def _group(option: str) -> int:
    found = re.fullmatch(r"g([0-9]{1,3})", option)
    if not found or int(found[1]) not in GROUPS:
        raise RecipeError(f"expected a group of {', '.join(f'g{g}' for g in GROUPS)}, got {option!r}")
    return int(found[1])


#: What stands before the first colon of a name, and what makes a scheme: it takes the options that it knows.
SCHEMES: dict[str, Callable[[list[str]], Scheme]] = {
    "int8": _int8,
    "int4": _int4,
    "codebook": _codebook,
    "bf16": lambda _: bf16,
    "none": lambda _: none,
}


def scheme(name: str) -> Scheme:
    """The quantization scheme called `name`, for example "int4:g64:asym".

    Raises:
        RecipeError: there is no such scheme.
    """
    family, *options = text("quantization scheme", name, RecipeError).split(":")
    if family not in SCHEMES:
        raise RecipeError(f"quantization scheme {name!r} is unknown, only {', '.join(SCHEMES)}")
    try:
        found = SCHEMES[family](options)
    except RecipeError as error:
        raise RecipeError(f"quantization scheme {name!r}: {error}") from error
    if options:
        raise RecipeError(f"quantization scheme {name!r}: {':'.join(options)!r} is unknown")
    return found


def of_tables(name: str) -> str:
    """The scheme that embeddings, and the heads that often share them, get by default where linears have the one called
    `name`: int8 where those have integers, else the same."""
    return name if scheme(name).name in ("none", "bf16") else "int8"


def quantize(name: str, weight: np.ndarray) -> Quantized:
    """Quantizes float32 [N,K] with the scheme called `name`; each weight is rounded to the nearest value."""
    return scheme(name)(weight)
