"""aerogel: an inference engine for compressed Transformers on CPUs.

model = aerogel.load("packed-model")
model.encode(["a sentence", "another one"])      # float32 [2, hidden]

aerogel.compress("sentence-transformers/all-MiniLM-L6-v2", "packed-model", sparsity=0.8)
"""

from __future__ import annotations

import logging

from aerogel._core import isa, kernels
from aerogel._version import __version__
from aerogel.compress import CompressReport, TensorReport, compress
from aerogel.errors import (
    AerogelError,
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
from aerogel.linear import Linear, csr_matmul
from aerogel.model import Model, load

__all__ = [
    "AerogelError",
    "CheckpointError",
    "CompressReport",
    "ConfigError",
    "DataError",
    "IsaError",
    "Linear",
    "MissingTensorsError",
    "Model",
    "RecipeError",
    "ShapeError",
    "TensorReport",
    "TokenizerError",
    "UnsupportedModelError",
    "__version__",
    "compress",
    "csr_matmul",
    "isa",
    "kernels",
    "load",
]

# A library is silent unless its user asks: logging.getLogger("aerogel").
logging.getLogger(__name__).addHandler(logging.NullHandler())
