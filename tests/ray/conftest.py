"""One Ray of this machine for all tests that need one; where Ray is not installed they are skipped."""

import os
from pathlib import Path

import pytest

import aerogel


@pytest.fixture(scope="session")
def cluster():
    """The address of a Ray with two CPUs, to which this process is connected."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = str(Path(aerogel.__file__).parents[1])  # of the workers
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
