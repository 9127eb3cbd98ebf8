"""The forced instruction set is the one that runs, and each gives the same int8 answer. It is read once a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import aerogel
from aerogel import _core

ALL = ["scalar", "avx2", "avxvnni", "avx512vnni", "neon", "neondot"]
SCRIPT = """
import numpy as np, aerogel
rng = np.random.default_rng(0)
w = rng.standard_normal((70, 130)).astype(np.float32) * (rng.random((70, 130)) < 0.2)
layer = aerogel.Linear(w, quant="int8", format="gathered_q8", threads=1)
y = layer(rng.standard_normal((9, 130)).astype(np.float32))
print(aerogel.isa(), layer.forms[0]["isa"], y.tobytes().hex())
"""


def run(isa: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AEROGEL_ISA": isa}
    return subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("isa", ALL)
def test_the_forced_isa_is_what_runs(isa):
    if isa not in _core.supported_isas():
        pytest.skip(f"{isa}: not supported by this CPU")
    done = run(isa)
    assert done.returncode == 0, done.stderr
    used, kernel, y = done.stdout.split()
    assert used == isa
    fitting = [
        row for row in aerogel.kernels() if row["name"] == "gathered_q8" and row["isa"] == isa and row["available"]
    ]
    assert kernel == (isa if fitting else "scalar")
    assert y == run("scalar").stdout.split()[2]


def test_an_unsupported_isa_is_an_error():
    missing = next(isa for isa in ALL if isa not in _core.supported_isas())
    done = run(missing)
    assert done.returncode != 0
    assert f"AEROGEL_ISA={missing} is not supported by this CPU" in done.stderr


def test_an_unknown_isa_is_an_error():
    done = run("avx1024")
    assert done.returncode != 0
    known = "avx512vnni, avxvnni, avx2, neondot, neon, scalar"
    assert f"unknown instruction set 'avx1024': expected one of {known}" in done.stderr


def test_a_forked_child_runs_the_model(bert_folder):
    """After fork() the child has none of the parent's threads."""
    model = aerogel.load(bert_folder, threads=2)
    expected = model.encode(["a b c"])
    child = os.fork()
    if child == 0:
        same = (model.encode(["a b c"]) == expected).all()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
