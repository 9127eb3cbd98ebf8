"""The same weights give the same codes, whatever instructions NumPy finds."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import sys, hashlib, numpy as np
from aerogel.quantize import quantize
random = np.random.default_rng(0)
w = (random.standard_normal((96, 500)) * random.uniform(0.2, 3, (96, 1))).astype(np.float32)
pruned = np.where(np.abs(w) > 1, w, np.float32(0))
for name in sys.argv[1:]:
    found = hashlib.sha256()
    for matrix in (w, pruned):
        for part in vars(quantize(name, matrix)).values():
            found.update(b"" if part is None else np.asarray(part).tobytes())
    print(name, found.hexdigest())
"""
NAMES = ["int8", "int8:g64", "int4:g32", "int4:g64:asym", "codebook:16", "codebook:64", "codebook:256", "bf16"]


def hashes(**environment):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *NAMES], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_without_the_vectors_of_this_cpu():
    core = (np._core if hasattr(np, "_core") else np.core)._multiarray_umath  # NumPy 2 or 1
    dispatched = [feature for feature in core.__cpu_dispatch__ if core.__cpu_features__.get(feature)]
    if not dispatched:
        pytest.skip("NumPy here has one kind of instructions only")
    plain = hashes(NPY_DISABLE_CPU_FEATURES=" ".join(dispatched))
    assert plain == hashes() and plain.count("\n") == len(NAMES) and hashlib.sha256().hexdigest() not in plain
