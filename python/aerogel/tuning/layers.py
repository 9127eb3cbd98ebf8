"""Kinds of layers: what they share a measurement by, and the formats that may serve them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aerogel._core import WeightSource, linear_formats

#: Below this sparsity no sparse kernel has won anywhere, so nothing is measured.
WORTH_MEASURING = 0.25
#: Sparsities that stand for those around them.
GRID = (*(round(0.05 * i, 3) for i in range(5, 18)), *(round(0.875 + 0.025 * i, 3) for i in range(6)))

_SPARSE = ("gathered_q8", "quads_q8", "masked_q8", "blocks_q8", "rows_q8", "gathered_rows_q8")
#: Formats that can hold a kind of numbers; first the dense one, that no choice is to be slower than. Numbers of four bits
#: stand for int8 codes, so formats of int8 hold them too; a sparse codebook has no index for weights that are left out.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "int8": ("dense_q8", *_SPARSE),
    "int4": ("dense_q8", "dense_q4", *_SPARSE, "masked_q4"),
    "codebook4": ("dense_q8", "dense_q4", *_SPARSE, "masked_q4"),
    "sparse codebook4": ("dense_q8", *_SPARSE, "masked_q4"),
    "int8g": ("grouped_q8", "dense_f32", "csr_f32"),
    "blocks": ("grouped_qn",),
    "bf16": ("dense_bf16", "masked_bf16", "csr_f32"),
    "float16": ("dense_f16", "csr_f32"),
    "float32": ("dense_f32", "csr_f32"),
}
_ROWS = re.compile("[24]x1|[0-9]+:[0-9]+x[24]")
#: Formats that store blocks whole: the patterns (`pattern_name`) they are measured for; elsewhere they store many zeros.
ONLY_FOR = {"blocks_q8": re.compile("1x4"), "rows_q8": _ROWS, "gathered_rows_q8": _ROWS}


@dataclass(frozen=True)
class Layer:
    """A kind of layer: layers that agree in this share their measurement.

    Attributes:
        numbers: a key of `FORMATS`.
        n: outputs.
        k: inputs.
        sparsity: fraction of zeros, rounded.
        pattern: how the zeros lie, see `pattern_name`.
        threads: of the team that runs it.
        streamed: the model does not fit in the caches, so that weights come from DRAM whenever few tokens are run.
    """

    numbers: str
    n: int
    k: int
    sparsity: float
    pattern: str
    threads: int
    streamed: bool = False

    def __str__(self) -> str:
        where = "streamed" if self.streamed else "cached"
        return f"{self.numbers} {self.n}x{self.k} {self.sparsity:.1%} {self.pattern} {self.threads} threads {where}"


def dense_format(numbers: str) -> str:
    """The dense format of a kind of numbers."""
    return FORMATS[numbers][0]


def candidates(numbers: str) -> list[str]:
    """Formats that can serve such values here; the scalar reference is no rival of vectors, so it is left out."""
    isas = {row["format"]: row["isa"] for row in linear_formats()}
    dense = dense_format(numbers)
    return [format for format in FORMATS[numbers] if isas[format] != "scalar" or isas[dense] == "scalar"]


def tiles() -> dict[str, int]:
    """Rows that the kernel of a format takes together here, where that is not 1."""
    return {row["format"]: row["tile"] for row in linear_formats() if row["tile"] > 1}


def formats_of(layer: Layer) -> list[str]:
    """The formats that are measured for a kind of layer."""
    formats = candidates(layer.numbers)
    if layer.pattern == "dense":
        return [f for f in formats if f.startswith("dense") or f == dense_format(layer.numbers)]
    return [f for f in formats if f not in ONLY_FOR or ONLY_FOR[f].fullmatch(layer.pattern)]


def pattern_name(facts: Mapping[str, int], n: int, k: int) -> str:
    """ "Q:64", "2:4", "4:8", "1x4", "4x1", "2x1" or "unstructured", from `WeightSource.pattern`; where 4 or 2 rows share the
    mask of windows, "Q:64x4".

    A pattern has its name if it is also filled: 5 % more zeros than it requires are tolerated, 10 % in blocks.
    """
    nonzeros = facts["nonzeros"]
    if not nonzeros:
        return "empty"
    if nonzeros >= 0.9 * 4 * facts["blocks4"]:
        return "1x4"
    rows = next((r for r in (4, 2) if nonzeros >= 0.9 * r * facts[f"rows{r}"]), 1)
    shared = f"x{rows}" if rows > 1 else ""
    for name, most, width in (("2:4", 2, 4), ("4:8", 4, 8)):
        if facts[f"most_in_{width}"] == most and nonzeros >= 0.95 * most * n * k / width:
            return name + shared
    most = facts["most_in_64"]
    if most < 64 and nonzeros >= 0.95 * most * n * k / 64:
        return f"{most}:64{shared}"
    return f"{rows}x1" if shared else "unstructured"


def numbers_of(source: WeightSource) -> str:
    """The kind of numbers of a source, a key of `FORMATS`."""
    if source.numbers == "int8g" and not source.holds("grouped_q8"):
        return "float32"  # groups of a size that its kernels do not take
    if not source.four_bit or not source.holds("masked_q4"):
        return source.numbers
    if not source.holds("dense_q4"):
        return "sparse codebook4"
    return "int4" if source.four_bit_integers else "codebook4"


def chosen_without_measuring(source: WeightSource) -> str | None:
    """The format of layers with so few zeros that only one is considered, None if there are more."""
    numbers = numbers_of(source)
    if source.sparsity >= WORTH_MEASURING or "dense_q4" in FORMATS[numbers]:
        return None
    return dense_format(numbers)


def layer_of(source: WeightSource, threads: int, streamed: bool = False) -> Layer:
    """The kind of layer that a source makes."""
    facts = source.pattern() if source.sparsity >= WORTH_MEASURING else None
    return layer_named(numbers_of(source), source.n, source.k, source.sparsity, facts, threads, streamed)


def layer_named(
    numbers: str, n: int, k: int, sparsity: float, facts: Mapping[str, int] | None, threads: int, streamed: bool
) -> Layer:
    """The kind of a layer with such zeros; `facts` are those of its pattern."""
    if sparsity < WORTH_MEASURING or facts is None:
        return Layer(numbers, n, k, 0.0, "dense", threads, streamed)
    rounded = min(GRID, key=lambda each: abs(each - sparsity))
    return Layer(numbers, n, k, rounded, pattern_name(facts, n, k), threads, streamed)
