"""aerogel: an inference engine for compressed Transformers on CPUs.

model = aerogel.load("packed-model")
model.encode(["a sentence", "another one"])      # float32 [2, hidden]

aerogel.compress("sentence-transformers/all-MiniLM-L6-v2", "packed-model", sparsity=0.8, calibrate="texts.txt")

Methods and tools are in packages of their own: `aerogel.prune`, `aerogel.quantize`, `aerogel.budget`, `aerogel.calibrate`,
`aerogel.train`, `aerogel.evaluate`, `aerogel.report` and `aerogel.ray`.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aerogel._core import isa, kernels
from aerogel.errors import (
    AerogelError,
    ChatTemplateError,
    CheckpointError,
    ConfigError,
    DataError,
    IsaError,
    MissingTensorsError,
    RecipeError,
    ShapeError,
    TokenizerError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    import aerogel.budget as budget  # noqa: F401
    import aerogel.calibrate as calibrate  # noqa: F401
    import aerogel.evaluate as evaluate  # noqa: F401
    import aerogel.prune as prune  # noqa: F401
    import aerogel.quantize as quantize  # noqa: F401
    import aerogel.ray as ray  # noqa: F401
    import aerogel.report as report  # noqa: F401
    import aerogel.train as train  # noqa: F401
    from aerogel._util.version import __version__
    from aerogel.bench.limits import machine
    from aerogel.compression import CompressReport, Target, TensorReport, compress
    from aerogel.compression.recipe import Recipe
    from aerogel.engine.linear import Linear, csr_matmul
    from aerogel.engine.model import Model, load
    from aerogel.engine.sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
    from aerogel.explanation import Explanation, LayerReport, WhatIf, explain
    from aerogel.exporting import ExportReport, export

__all__ = [
    "AerogelError",
    "ChatTemplateError",
    "CheckpointError",
    "CompressReport",
    "ConfigError",
    "CrossEncoder",
    "DataError",
    "Explanation",
    "ExportReport",
    "IsaError",
    "LayerReport",
    "Linear",
    "MissingTensorsError",
    "Model",
    "Recipe",
    "RecipeError",
    "SentenceTransformer",
    "ShapeError",
    "SparseEncoder",
    "Target",
    "TensorReport",
    "TokenizerError",
    "UnsupportedModelError",
    "WhatIf",
    "__version__",
    "compress",
    "csr_matmul",
    "explain",
    "export",
    "isa",
    "kernels",
    "load",
    "machine",
]

# Loaded at first use: `aerogel info` need not wait for what only compression imports.
_LAZY = {
    "__version__": "aerogel._util.version",
    "CompressReport": "aerogel.compression",
    "Target": "aerogel.compression",
    "TensorReport": "aerogel.compression",
    "compress": "aerogel.compression",
    "Explanation": "aerogel.explanation",
    "LayerReport": "aerogel.explanation",
    "WhatIf": "aerogel.explanation",
    "explain": "aerogel.explanation",
    "ExportReport": "aerogel.exporting",
    "export": "aerogel.exporting",
    "Recipe": "aerogel.compression.recipe",
    "Linear": "aerogel.engine.linear",
    "csr_matmul": "aerogel.engine.linear",
    "Model": "aerogel.engine.model",
    "load": "aerogel.engine.model",
    "CrossEncoder": "aerogel.engine.sentence_transformers",
    "SentenceTransformer": "aerogel.engine.sentence_transformers",
    "SparseEncoder": "aerogel.engine.sentence_transformers",
    "machine": "aerogel.bench.limits",
}

#: Packages whose functions are called by the package's name, as in aerogel.evaluate.sts(...); imported at first use too.
_PACKAGES = ("budget", "calibrate", "evaluate", "prune", "quantize", "ray", "report", "train")

# A library is silent unless its user asks: logging.getLogger("aerogel").
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"aerogel.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'aerogel' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])
