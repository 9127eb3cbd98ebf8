"""Options of the benchmarks, and what they ran on."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import aerogel._core as core

SHAPES = ("768x768", "3072x768", "768x3072", "4096x4096", "384x384", "1536x384", "384x1536")
SPARSITIES = ("0.5", "0.6", "0.7", "0.8", "0.9", "0.95")
PATTERNS = ("32:64", "16:64", "8:64", "4:64")


def pytest_addoption(parser):
    group = parser.getgroup("aerogel")
    group.addoption("--shapes", default="768x768", help="NxK,... or all: " + ",".join(SHAPES))
    group.addoption("--tokens", default="1,128", help="M,... or all: 1,4,16,128,512")
    group.addoption(
        "--sparsities", default="0.8,0.9", help="fractions or q:64 patterns, or all: " + ",".join(SPARSITIES + PATTERNS)
    )
    group.addoption("--weights", default="random", help="random, real (AEROGEL_MINILM), or random,real")
    group.addoption("--isas", default=core.isa(), help="instruction sets, or all that this machine has")


def pytest_benchmark_update_machine_info(config, machine_info):
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    machine_info["aerogel"] = {
        "version": core.__version__,
        "commit": commit.stdout.strip() or None,
        "cpu": core.cpu_name() or platform.processor(),
        "isas": core.supported_isas(),
        "compiler": core.compiler(),
        "limits": core.limits(1),
    }
