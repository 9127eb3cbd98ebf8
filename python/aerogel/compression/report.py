"""What `compress` tells of its work."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from aerogel.architectures import Role
from aerogel.compression.check import Check


@dataclass(frozen=True)
class TensorReport:
    """What became of one parameter.

    Attributes:
        name: the parameter's name in the packed model.
        shape: its shape.
        role: "linear", "head", "embedding" or "kept".
        sparsity: fraction of exact zeros.
        bytes: its size in the file.
        error: |w - stored| / |w| in the Frobenius norm, pruning and quantization together.
        output_error: the same of the layer's results on the calibration texts, |x w - x stored| / |x w|; None without texts.
        scheme: how it is quantized; "none" for float32.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    sparsity: float
    bytes: int
    error: float
    output_error: float | None = None
    scheme: str = "none"

    @property
    def bits(self) -> float:
        """Bits of the file a weight, zeros counted too."""
        return 8 * self.bytes / max(1, math.prod(self.shape))


@dataclass(frozen=True)
class CompressReport:
    """What `compress` did.

    Attributes:
        path: the packed model.
        recipe: everything that was decided, as plain values.
        tensors: of the packed model, in their order.
        file_bytes: of model.safetensors.
        dense_bytes: what the source's parameters take in float32.
        seconds: that it took.
        sources: the other inputs: SHA-256 of calibration files by name, versions of packages.
        notes: what should be known of the result, in sentences.
        check: how alike its answers are to the source's on texts that it was not fitted to; None where that was not asked
            for, or such a model cannot be compared.
    """

    path: str
    recipe: dict[str, Any]
    tensors: list[TensorReport]
    file_bytes: int
    dense_bytes: int
    seconds: float
    sources: dict[str, str]
    notes: list[str]
    check: Check | None = None

    @property
    def sparsity(self) -> float:
        """Fraction of zeros over all pruned matrices."""
        linears = self.linears
        size = sum(math.prod(t.shape) for t in linears)
        return sum(t.sparsity * math.prod(t.shape) for t in linears) / size if size else 0.0

    @property
    def linears(self) -> list[TensorReport]:
        """The matrices that pruning may touch."""
        return [t for t in self.tensors if t.role == Role.LINEAR.value]

    @property
    def bits(self) -> float:
        """Bits of the file a weight, over all pruned matrices."""
        linears = self.linears
        return 8 * sum(t.bytes for t in linears) / max(1, sum(math.prod(t.shape) for t in linears))

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        check = None if self.check is None else self.check.as_dict()
        return {**asdict(self), "check": check, "sparsity": self.sparsity, "bits": self.bits}
