"""Ctrl-C in the middle of a call: it ends at once, and the model gives the same answers afterwards."""

import subprocess
import sys
import textwrap
import threading

import pytest

import aerogel
from aerogel.errors import AerogelError

from .. import tiny_models

# What a child runs: a call that takes long, and SIGINT 0.3 s into it.
CHILD = """
import os, signal, sys, threading, time
import numpy as np
import aerogel

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background has it ignored

def interrupted(name, call):
    sent = []
    def kick():
        time.sleep(0.3)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=kick)
    thread.start()
    try:
        call()
    except KeyboardInterrupt:
        took = time.perf_counter() - sent[0]
        print(f"{name}: {1000 * took:.0f} ms after the signal")
        assert took < 5, took
    else:
        raise SystemExit(f"{name}: no KeyboardInterrupt")
    finally:
        thread.join()

threads = int(sys.argv[2])
model = aerogel.load(sys.argv[1], threads=threads)
few = np.arange(40) % 14 + 5
wanted = model.forward(few)
"""

CALLS = {
    "one long sequence": "interrupted('forward', lambda: model.forward(np.arange(150_000) % 14 + 5))",
    "many sequences": "interrupted('forward', lambda: model.forward([few] * 400_000))",
    "waiting for another caller": """
        other = threading.Thread(target=lambda: model.forward([few] * 1500))
        other.start()
        interrupted('forward', lambda: [model.forward(few) for _ in iter(int, 1)])
        other.join()
    """,
    "a linear": """
        layer = aerogel.Linear(np.ones((1024, 1024), np.float32), format="dense", threads=threads)
        x = np.ones((1 << 13, 1024), np.float32)
        interrupted('linear', lambda: [layer(x) for _ in iter(int, 1)])
    """,
}


@pytest.fixture(scope="module")
def long_model(tmp_path_factory):
    config = {**tiny_models.LLAMA, "max_position_embeddings": 160_000}
    folder = tmp_path_factory.mktemp("long") / "llama"
    return tiny_models.write(folder, config, tiny_models.llama_weights(config), prefix="model.")


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c(call, long_model):
    script = CHILD + textwrap.dedent(CALLS[call]) + "\nassert np.array_equal(model.forward(few), wanted)\n"
    script += "model.close()\nprint('same answer')\n"
    done = subprocess.run(
        [sys.executable, "-c", script, str(long_model), "2"], capture_output=True, text=True, timeout=120, check=False
    )
    print(done.stdout)
    assert done.returncode == 0 and "same answer" in done.stdout, done.stderr


def test_a_handler_may_use_the_model_that_it_interrupts(long_model):
    """A handler that raises nothing: the call goes on to its end, with the same result."""
    script = CHILD + textwrap.dedent("""
        seen = []
        signal.signal(signal.SIGALRM, lambda *_: seen.append(np.array_equal(model.forward(few), wanted)))
        batch = [few] * 300
        calm = model.forward(batch)
        signal.setitimer(signal.ITIMER_REAL, 0.04, 0.02)
        calls = 0
        while calls < 3 or len(seen) < 3:  # as fast as the machine may be
            assert np.array_equal(model.forward(batch), calm)
            calls += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert seen and all(seen), seen
        print("same answer")
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(long_model), "2"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0 and "same answer" in done.stdout, done.stderr


def test_no_threads_to_be_had(bert_folder, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(AerogelError, match="threads: the system starts none of 2 for packing: can't start new thread"):
        aerogel.load(bert_folder, threads=2)
