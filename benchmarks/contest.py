"""Fair turns for engines that must not disturb each other.

Every contestant lives in a process of its own, with its own threads and environment, and the processes are interleaved:
A B C, A B C, ... While one has its turn the others are stopped (SIGSTOP), so nobody's waiting threads spin on the
cores that are being measured. A turn is one untimed call, which wakes threads and refills caches, and then timed calls.
Each turn also records how many cores somebody else kept busy meanwhile, so that disturbed turns can be told apart.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from peers import PEERS, installed_version

QUIET_CORES = 0.2  # a turn is quiet when others used less than this many cores
MIN_QUIET_TURNS = 3

# On a machine that others use too, the CPU time of one thread is close to what its wall time would be alone. With more
# threads it says nothing: waiting threads that spin would count as work.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Skip(Exception):
    """The contestant cannot take part here; the message says why."""


@dataclass
class Turn:
    seconds: list[float]
    foreign_cores: float | None

    @property
    def quiet(self) -> bool:
        return self.foreign_cores is not None and self.foreign_cores < QUIET_CORES


@dataclass
class Result:
    """Timings of one contestant in one case, in milliseconds."""

    median: float
    minimum: float
    calls: int
    quiet_turns: int
    turns: int
    only_quiet: bool
    ratio_to_first: float | None = None


class Worker:
    """One contestant in a process of its own. `build` must be importable, and return a function of a case."""

    def __init__(self, name: str, build: Callable[..., Callable], *args, environment: dict[str, str] | None = None):
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build, args), daemon=True)
        with _environment(environment or {}):
            self._process.start()
        theirs.close()
        # A stopped process does not hear the polite end that multiprocessing sends at exit, and would hang it.
        atexit.register(self.close)
        self._answer()
        self._pause()

    def output(self, case) -> Any:
        return self._ask("output", case)

    def turn(self, case, seconds: float, max_calls: int, clock: str) -> Turn:
        return Turn(*self._ask("turn", case, seconds, max_calls, clock))

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        atexit.unregister(self.close)

    def _ask(self, *command):
        self._signal("SIGCONT")
        self._pipe.send(command)
        try:
            return self._answer()
        finally:
            self._pause()

    def _answer(self):
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"{self.name}: its process died with exit code {self._process.exitcode}") from None
        if kind == "error":
            raise RuntimeError(f"{self.name}: {value}")
        if kind == "skip":
            self.close()
            raise Skip(value)
        return value

    def _pause(self) -> None:
        if hasattr(signal, "SIGSTOP"):
            self._signal("SIGSTOP")
        else:
            time.sleep(0.05)  # long enough for most spinning threads to fall asleep

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self._process.is_alive():
            os.kill(self._process.pid, getattr(signal, name))


@contextlib.contextmanager
def _environment(changes: dict[str, str]):
    before = {key: os.environ.get(key) for key in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _serve(pipe, build, args) -> None:
    try:
        run = build(*args)
        pipe.send(("ready", None))
    except (Skip, ModuleNotFoundError) as reason:
        pipe.send(("skip", str(reason)))
        return
    except Exception:
        pipe.send(("error", traceback.format_exc()))
        return
    while True:
        try:
            command, case, *limits = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("value", run(case) if command == "output" else _timed(run, case, *limits)))
        except Exception:
            pipe.send(("error", traceback.format_exc()))


def _timed(run, case, seconds: float, max_calls: int, clock: str) -> tuple[list[float], float | None]:
    now = CLOCKS[clock]
    run(case)
    times: list[float] = []
    busy, own, start = _busy_seconds(), time.process_time(), time.perf_counter()
    while len(times) < max_calls and (not times or time.perf_counter() - start < seconds):
        begin = now()
        run(case)
        times.append(now() - begin)
    wall = time.perf_counter() - start
    if busy is None:
        return times, None
    return times, max(0.0, (_busy_seconds() - busy - (time.process_time() - own)) / wall)


def _busy_seconds() -> float | None:
    """CPU time that the whole machine has spent busy; the hypervisor's steal counts as busy."""
    try:
        with open("/proc/stat") as file:
            ticks = [int(t) for t in file.readline().split()[1:9]]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def hold(
    workers: list[Worker], case, rounds: int, seconds: float, max_calls: int, clock: str = "wall"
) -> dict[str, Result]:
    """Interleaved turns of all workers; ratio_to_first is the first one's time over theirs, paired round by round."""
    turns: dict[str, list[Turn]] = {worker.name: [] for worker in workers}
    for _ in range(rounds):
        for worker in workers:
            turns[worker.name].append(worker.turn(case, seconds, max_calls, clock))
    results = {name: _summary(of_one) for name, of_one in turns.items()}
    if workers:
        first = turns[workers[0].name]
        for name, of_one in turns.items():
            results[name].ratio_to_first = _paired_ratio(first, of_one)
    return results


def _summary(turns: list[Turn]) -> Result:
    quiet = [turn for turn in turns if turn.quiet]
    only_quiet = len(quiet) >= MIN_QUIET_TURNS
    times = [t * 1e3 for turn in (quiet if only_quiet else turns) for t in turn.seconds]
    return Result(statistics.median(times), min(times), len(times), len(quiet), len(turns), only_quiet)


def _paired_ratio(first: list[Turn], other: list[Turn]) -> float:
    pairs = list(zip(first, other))
    quiet = [(a, b) for a, b in pairs if a.quiet and b.quiet]
    chosen = quiet if len(quiet) >= MIN_QUIET_TURNS else pairs
    return statistics.median(statistics.median(a.seconds) / statistics.median(b.seconds) for a, b in chosen)


def _load_average() -> list[float]:
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else []


@dataclass
class Machine:
    """What a figure is worth nothing without."""

    when: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    system: str = field(default_factory=platform.platform)
    python: str = field(default_factory=platform.python_version)
    cpu: str = ""
    cpu_flags: list[str] = field(default_factory=list)
    cpus: int = field(default_factory=lambda: os.cpu_count() or 0)
    load_average: list[float] = field(default_factory=_load_average)
    commit: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls) -> Machine:
        machine = cls()
        with contextlib.suppress(OSError):
            for line in Path("/proc/cpuinfo").read_text().splitlines():
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    machine.cpu = value.strip()
                if key.strip() in ("flags", "Features"):
                    machine.cpu_flags = value.split()
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            machine.commit = subprocess.run(
                ["git", "describe", "--always", "--dirty"],
                cwd=Path(__file__).parent,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
        names = {peer.distribution for peer in PEERS.values()} | {"aerogel", "transformers", "nncf", "numpy"}
        machine.versions = {name: v for name in sorted(names) if (v := installed_version(name))}
        return machine


def print_results(title: str, rows: list[tuple[str, ...]], columns: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
