"""Threads where cores are scarce: under affinity, under a CPU quota, beside another process.

What is compared is the CPU time of a forward pass, which neighbours on the machine hardly change; threads that spin while
they wait for one that has no core would multiply it. The bounds tell a collapse from a slow machine, nothing finer.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from .. import tiny_models

SECONDS = 1.0
#: A forward pass with waiting threads may take so many times the CPU time of one with a single thread.
COLLAPSE = 3.0

CHILD = """
import json, sys, time
import numpy as np
import aerogel
model = aerogel.load(sys.argv[1], threads=int(sys.argv[2]) or None)
ids = np.arange(64) % 50 + 5
model.forward(ids)
print("ready", flush=True)
sys.stdin.readline()
passes, cpu, end = 0, time.process_time(), time.perf_counter() + float(sys.argv[3])
while time.perf_counter() < end:
    model.forward(ids)
    passes += 1
print(json.dumps({"passes": passes, "cpu": time.process_time() - cpu, "threads": model.threads}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Big enough that its linears are shared among threads."""
    config = {**tiny_models.BERT, "hidden_size": 192, "intermediate_size": 768}
    config |= {"num_hidden_layers": 4, "max_position_embeddings": 64}
    return tiny_models.write(tmp_path_factory.mktemp("threads") / "bert", config, tiny_models.bert_weights(config))


def start(folder, threads, cpus=None, group=None):
    def restrict():
        if cpus is not None:
            os.sched_setaffinity(0, cpus)

    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, folder, str(threads), str(SECONDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=restrict if cpus is not None else None,
    )
    if group is not None:
        group(child.pid)
    assert child.stdout.readline() == "ready\n"
    return child


def finish(child):
    out, _ = child.communicate("go\n", timeout=60)
    assert child.returncode == 0
    return json.loads(out)


def cost(result):
    """CPU seconds of a pass."""
    return result["cpu"] / result["passes"]


@contextmanager
def cpu_quota(share):
    """A control group that may use `share` of one CPU; yields a function that moves a process there."""
    name = f"aerogel-test-{os.getpid()}"
    v1, v2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    root = v1 if (v1 / "cpu.cfs_quota_us").exists() else v2
    group = root / name
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            if root is v1:
                (group / "cpu.cfs_quota_us").write_text(str(int(share * 100_000)))
            else:
                (group / "cpu.max").write_text(f"{int(share * 100_000)} 100000")
        except OSError as error:
            pytest.skip(f"no CPU quota can be set here: {error}")
        yield lambda pid: (group / "cgroup.procs").write_text(str(pid))
    finally:
        for _ in range(50):  # a group cannot go before the last process has
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")


def test_affinity_sets_the_number_of_threads(folder):
    one = {min(os.sched_getaffinity(0))}
    assert finish(start(folder, 0, one))["threads"] == 1


def test_more_threads_than_cores_do_not_collapse(folder):
    one = {min(os.sched_getaffinity(0))}
    alone = finish(start(folder, 1, one))
    crowded = finish(start(folder, 4, one))
    assert crowded["threads"] == 4
    assert cost(crowded) < COLLAPSE * cost(alone), (crowded, alone)


def test_a_cpu_quota_slows_in_proportion(folder):
    free = finish(start(folder, 1))
    with cpu_quota(0.5) as join:
        held = finish(start(folder, 2, group=join))
    assert held["cpu"] < 0.8 * SECONDS  # the quota held
    assert cost(held) < COLLAPSE * cost(free), (held, free)


def test_two_processes_share_the_machine(folder):
    alone = finish(start(folder, 2))
    children = [start(folder, 2) for _ in range(2)]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    both = [finish(child) for child in children]
    for each in both:
        assert cost(each) < COLLAPSE * cost(alone), (each, alone)
    slow, fast = sorted(each["passes"] for each in both)
    assert fast < 3 * slow, both
