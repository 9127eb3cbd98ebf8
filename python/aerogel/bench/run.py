"""Fair turns for engines that must not disturb each other.

Every contestant lives in a process of its own, with its own threads and environment, and the processes are interleaved:
A B C, A B C, ... While one has its turn the others are stopped (SIGSTOP), so nobody's waiting threads spin on the
cores that are being measured. A turn is one untimed call, which wakes threads and refills caches, and then timed calls.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.bench import noise, serve
from aerogel.bench.noise import Turn
from aerogel.errors import AerogelError

#: Timed calls of one turn: until so many seconds are over, at least one, at most so many.
TURN_SECONDS, MAX_CALLS = 0.15, 200
#: Rounds of a run unless told otherwise.
ROUNDS = 7
#: Disturbed turns are left out of the figures if at least so many others remain.
MIN_QUIET_TURNS = 3


class EngineError(AerogelError):
    """A contestant cannot be loaded, or failed in a run."""


class Worker:
    """One engine in a process of its own, stopped unless it is asked something.

    Args:
        engine: its file in `peers`.
        job: see `peers.Engine`.
        python: the interpreter of the environment that has the engine.
    """

    def __init__(self, engine: str, job: dict[str, Any], python: str | None = None) -> None:
        self._engine = engine
        ours, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()
        command = [python or sys.executable, serve.__file__, str(theirs.fileno())]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                env=_environment(job["threads"], python),
            )
        except OSError as error:
            raise EngineError(f"{python}: cannot be started: {error.strerror}") from error
        finally:
            theirs.close()
        self._pipe = Connection(ours.detach())
        atexit.register(self.close)
        try:
            self._pipe.send_bytes(serve.pack([engine, job]))
            self.facts = self._answer()[0]
        except BaseException:
            self.close()
            raise
        self._signal("SIGSTOP")

    def output(self, *arrays: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
        """What the engine makes of one input, and the memory that it has taken so far."""
        memory, (output,) = self._ask(["output"], *arrays)
        return output, memory

    def turn(self, *arrays: np.ndarray) -> Turn:
        before = noise.fixed_work()
        value, _ = self._ask(["turn", TURN_SECONDS, MAX_CALLS], *arrays)
        return Turn(fixed_work=before, **value)

    def close(self) -> None:
        atexit.unregister(self.close)
        self._process.kill()  # reaches a stopped process too
        self._process.wait()
        self._pipe.close()
        self._errors.close()

    def _ask(self, command: list[Any], *arrays: np.ndarray) -> tuple[Any, list[np.ndarray]]:
        self._signal("SIGCONT")
        try:
            self._pipe.send_bytes(serve.pack(command, *arrays))
            return self._answer()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EngineError(f"{self._engine}: {self._epitaph()}") from error
        finally:
            self._signal("SIGSTOP")

    def _answer(self) -> tuple[Any, list[np.ndarray]]:
        try:
            (kind, value), arrays = serve.unpack(self._pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise EngineError(f"{self._engine}: {self._epitaph()}") from None
        if kind == "error":
            raise EngineError(value)
        return value, arrays

    def _epitaph(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"its process ended with code {code}{': ' + lines[-1][:300] if lines else ''}"

    def _signal(self, name: str) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, getattr(signal, name))


def _environment(threads: int, python: str | None) -> dict[str, str]:
    """OpenMP runtimes read their thread count when they load. How threads wait is left at each engine's default."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "NM_DISABLE_ANALYTICS": "1",  # deepsparse's
        "HF_HUB_OFFLINE": "1",
    }
    if python is None:  # the same aerogel as this one, wherever it was imported from
        root = str(Path(serve.__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    else:
        environment.pop("PYTHONPATH", None)
    return environment


def interleave(
    workers: dict[str, Worker],
    arrays: Sequence[np.ndarray],
    rounds: int,
    failed: Callable[[str, str], None],
    seconds: float | None = None,
) -> dict[str, list[Turn]]:
    """Rounds in which every worker has a turn with the same input. One that fails is reported and leaves.

    `seconds` ends the rounds early, after at least three.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in workers}
    start = time.perf_counter()
    for done in range(rounds):
        if seconds is not None and done >= MIN_QUIET_TURNS and time.perf_counter() - start > seconds:
            break
        for name in list(turns):
            try:
                turns[name].append(workers[name].turn(*arrays))
            except EngineError as error:
                del turns[name]
                failed(name, str(error))
    return turns


def summary(turns: Sequence[Turn]) -> dict[str, Any]:
    """Milliseconds of a call: the median, the least, the quartiles."""
    quiet = [turn for turn in turns if not turn.disturbed]
    chosen = quiet if len(quiet) >= MIN_QUIET_TURNS else list(turns)
    times = 1000 * np.concatenate([turn.seconds for turn in chosen])
    least, q1, median, q3 = np.percentile(times, [0, 25, 50, 75])
    return {
        "median": float(median),
        "min": float(least),
        "q1": float(q1),
        "q3": float(q3),
        "calls": len(times),
        "turns": len(turns),
        "disturbed": len(turns) - len(quiet),
    }


def speedup(baseline: Sequence[Turn], turns: Sequence[Turn]) -> float:
    """The baseline's time over the other's, paired round by round: what changes slowly cancels out."""
    pairs = list(zip(baseline, turns))
    quiet = [(a, b) for a, b in pairs if not a.disturbed and not b.disturbed]
    chosen = quiet if len(quiet) >= MIN_QUIET_TURNS else pairs
    return statistics.median(statistics.median(a.seconds) / statistics.median(b.seconds) for a, b in chosen)
