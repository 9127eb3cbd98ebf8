"""Some kills of writers: many are `python tests/fuzz/kills.py`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_writer_killed_at_some_moments_loses_nothing():
    # a process of its own: it forks, which one with threads should not
    command = [sys.executable, "-m", "tests.fuzz.kills", "8"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    assert "8 kills: none lost, none half-written" in result.stdout


def test_a_command_that_is_told_to_end_leaves_nothing(bert_folder, tmp_path):
    number = signal.SIGTERM
    code = f"""
import os, sys
from aerogel.cli import app
from aerogel.compression import pipeline
write = pipeline.keep_files
def told(*arguments):
    os.kill(os.getpid(), {int(number)})
    write(*arguments)
pipeline.keep_files = told
sys.argv = ["aerogel", "compress", {str(bert_folder)!r}, "-o", {str(tmp_path / "out")!r}]
sys.argv += ["--sparsity", "0.5", "--method", "magnitude"]
app.main()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 128 + number, result.stderr
    assert not list(tmp_path.iterdir())
