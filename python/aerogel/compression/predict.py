"""What the layers of a compressed model will take on this machine, from the measured times of their kernels."""

from __future__ import annotations

from dataclasses import dataclass

from aerogel._util.checks import thread_count
from aerogel.compression.report import CompressReport, TensorReport
from aerogel.tuning import curve


@dataclass(frozen=True)
class Prediction:
    """Seconds of the linears in a forward pass of `tokens` tokens, all of them together.

    Attributes:
        tokens: rows of the inputs.
        layers: by the tensor's name.
        seconds: of all.
        dense: of all, were they dense int8.
    """

    tokens: int
    layers: dict[str, float]
    seconds: float
    dense: float


def predict(report: CompressReport, tokens: int = 128, threads: int | None = None) -> Prediction | None:
    """Kernels of shapes that were never measured on this machine are measured now. None where no layer is of integers.

    Q, K and V, which run as one, are counted one by one, and patterns as if they were unstructured: an estimate, made to
    compare recipes.
    """
    linears = [t for t in report.linears if _is_integer(t)]
    if not linears:
        return None
    count = thread_count(threads)
    layers, dense = {}, 0.0
    for tensor in linears:
        n, k = tensor.shape
        course = curve("int8", n, k, tokens, count)
        if course is None:
            return None
        dense += course.dense[0]
        layers[tensor.name] = course.dense[0] / max(1.0, course.gain(tensor.sparsity))
    return Prediction(tokens, layers, sum(layers.values()), dense)


def _is_integer(tensor: TensorReport) -> bool:
    return tensor.scheme.startswith(("int", "codebook"))
