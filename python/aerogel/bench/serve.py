"""The process of one contestant: it loads one engine and answers its parent over a socket.

Started as a script, possibly by another Python that has no aerogel (`--python NAME=PATH`), so this file and `peers/`
need the standard library and NumPy alone. Whatever a library prints goes to stderr, never into an answer.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from aerogel.bench.peers import Engine

HERE = Path(__file__).resolve().parent


def pack(value: object, *arrays: np.ndarray) -> bytes:
    """A message: JSON and arrays. Not pickle, whose form depends on the versions of Python and NumPy."""
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    parts: dict[str, Any] = {f"a{i}": array for i, array in enumerate(arrays)}
    np.savez(file, json=text, **parts)
    return file.getvalue()


def unpack(message: bytes) -> tuple[Any, list[np.ndarray]]:
    """(value, [arrays])"""
    with np.load(io.BytesIO(message)) as parts:
        return json.loads(parts["json"].tobytes()), [parts[f"a{i}"] for i in range(len(parts.files) - 1)]


def engine_class(name: str) -> type[Engine]:
    """The class Engine of peers/<name>.py, imported without aerogel around it."""
    if "aerogel_peers" not in sys.modules:
        where = HERE / "peers"
        spec = importlib.util.spec_from_file_location(
            "aerogel_peers", where / "__init__.py", submodule_search_locations=[str(where)]
        )
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules["aerogel_peers"] = package
        spec.loader.exec_module(package)
    engine: type[Engine] = importlib.import_module(f"aerogel_peers.{name}").Engine
    return engine


def main() -> None:
    sys.path.pop(0)  # this folder: nothing in it is meant to be imported by its bare name
    if sys.argv[1] == "convert":
        engine_class(sys.argv[2])(json.loads(sys.argv[3])).convert()
        return
    pipe = Connection(socket.socket(fileno=int(sys.argv[1])).detach())
    _die_with_parent()
    (name, job), _ = unpack(pipe.recv_bytes())
    try:
        engine = engine_class(name)(job)
        _convert(name, job, engine)
        before = _resident_bytes()
        _reset_peak()
        start = time.perf_counter()
        engine.load()
        load_ms = 1000 * (time.perf_counter() - start)
        pipe.send_bytes(pack(["ready", {"load_ms": load_ms, "version": engine.version(), **engine.facts()}]))
    except BaseException as error:
        pipe.send_bytes(pack(["error", _one_line(error)]))
        return
    while True:
        try:
            (command, *limits), arguments = unpack(pipe.recv_bytes())
        except EOFError:
            return
        try:
            if command == "output":
                output = engine.run(*arguments)
                memory = {
                    "resident_bytes": max(0, _resident_bytes() - before),
                    "peak_bytes": max(0, _peak_bytes() - before),
                }
                pipe.send_bytes(pack(["value", memory], output))
            else:
                pipe.send_bytes(pack(["value", _timed(engine.run, arguments, *limits)]))
        except Exception as error:
            pipe.send_bytes(pack(["error", _one_line(error)]))


def _convert(name: str, job: dict[str, Any], engine: Engine) -> None:
    """Makes the engine's files in a process of its own, whose memory is then not mistaken for the engine's."""
    if all(file.exists() for file in engine.files()):
        return
    command = [sys.executable, __file__, "convert", name, json.dumps(job)]
    result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        raise RuntimeError("conversion failed: " + ([""] + result.stderr.strip().splitlines())[-1])


def _timed(run: Callable[..., object], arguments: list[np.ndarray], seconds: float, max_calls: int) -> dict[str, Any]:
    """One call that wakes threads and refills caches, then timed ones."""
    run(*arguments)
    times: list[float] = []
    busy, own, start = _busy_seconds(), time.process_time(), time.perf_counter()
    while len(times) < max_calls and (not times or time.perf_counter() - start < seconds):
        begin = time.perf_counter()
        run(*arguments)
        times.append(time.perf_counter() - begin)
    wall = time.perf_counter() - start
    now, used = _busy_seconds(), time.process_time() - own
    if busy is None or now is None:
        return {"seconds": times, "foreign_cores": None, "steal": None}
    return {
        "seconds": times,
        "foreign_cores": max(0.0, (now[0] - busy[0] - used) / wall),
        "steal": max(0.0, (now[1] - busy[1]) / wall),
    }


def _busy_seconds() -> tuple[float, float] | None:
    """CPU seconds that the machine has been busy, steal included, and those that the hypervisor gave to others."""
    try:
        with open("/proc/stat") as file:
            ticks = [int(t) for t in file.readline().split()[1:9]]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq + steal) / tick, steal / tick


def _one_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


def _die_with_parent() -> None:
    """Linux: a stopped process would otherwise outlive a parent that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def _resident_bytes() -> int:
    """Resident memory now; where the system does not say, its peak so far."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak_bytes()


def _peak_bytes() -> int:
    try:
        # not getrusage where this exists: after exec that still counts the process that forked
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
