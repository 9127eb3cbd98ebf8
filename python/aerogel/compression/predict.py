"""What the layers of a compressed model take on this machine, from the measured times of their kernels."""

from __future__ import annotations

from dataclasses import dataclass

from aerogel._util.progress import Progress
from aerogel.compression.report import CompressReport
from aerogel.engine.kinds import kind_of
from aerogel.engine.model import load
from aerogel.tuning import WORTH_MEASURING, dense_format, estimated


@dataclass(frozen=True)
class Prediction:
    """Seconds of the linears with zeros in a forward pass of `tokens` tokens.

    Attributes:
        tokens: rows of the inputs.
        layers: by the name that `Model.describe` gives; Q, K and V run as one.
        seconds: of all.
        dense: of all, were they dense.
    """

    tokens: int
    layers: dict[str, float]
    seconds: float
    dense: float


def predict(
    report: CompressReport, tokens: int = 128, threads: int | None = None, progress: Progress | None = None
) -> Prediction | None:
    """Loads the model, which measures its kernels where they are not known: the next load finds them. None where no layer
    has zeros enough for that.

    Args:
        progress: see `aerogel.load`.
    """
    if not any(tensor.sparsity >= WORTH_MEASURING for tensor in report.linears):
        return None
    layers: dict[str, float] = {}
    dense = 0.0
    with load(report.path, threads, progress=progress) as model:
        for step in model.describe():
            if "forms" not in step or step["name"] in layers:  # a layer stands in the description of every output
                continue
            kind = kind_of(model, step)
            times = estimated(kind) if kind.pattern != "dense" else None
            if times is not None:
                rows = tokens * step["terms"]
                forms = [(form["format"], form["max_rows"]) for form in step["forms"]]
                layers[step["name"]] = times.of(forms, rows)
                dense += times.at(dense_format(kind.numbers), rows)
    return Prediction(tokens, layers, sum(layers.values()), dense) if layers else None
