"""Every benchmark records what it ran on."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import aerogel._core as core


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
    }
