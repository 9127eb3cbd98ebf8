"""Ray's side of a run: workers on a cluster, each with one part at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aerogel.errors as errors
from aerogel._core import default_threads
from aerogel.errors import AerogelError
from aerogel.ray.ledger import Ledger
from aerogel.ray.parts import Part, Task
from aerogel.ray.sources import Source

#: What is told: a part, and the seconds that its worker took.
Done = Callable[[Part, float], None]


class _Failure(NamedTuple):
    """An AerogelError on its way: those with arguments of their own cannot be pickled."""

    kind: str
    text: str


class _Worker:
    """The actor. It loads its model in a call, not when it is made: a failure is told then, not the loss of an actor."""

    def __init__(self) -> None:
        self._writer: Any = None

    def load(self, task: Task, schema: Any, folder: Path, threads: int) -> Any:
        from aerogel.ray.part_writer import PartWriter

        try:
            self._writer = PartWriter(task, schema, folder, threads)
        except AerogelError as error:
            return _Failure(type(error).__name__, str(error))
        return None

    def write(self, source: Source, part: Part) -> Any:
        try:
            return self._writer.write(source, part)
        except AerogelError as error:
            return _Failure(type(error).__name__, str(error))


@contextlib.contextmanager
def connected(address: str | None, threads: int, workers: int | None) -> Iterator[int]:
    """Ray for the block: that of the process where it has one, else the cluster at `address`, else a Ray of this machine
    alone that ends with the block. Gives the number of workers that there is room for, or that were asked for.

    Raises:
        AerogelError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise AerogelError(f"many machines need Ray: pip install aerogel[ray] ({error})") from error
    ours = not ray.is_initialized()
    if ours:
        # A library does not report to anybody that it is used.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            room = max(default_threads(), (workers or 1) * threads)
            options |= {"address": "local", "num_cpus": room, "include_dashboard": False}
        else:
            options |= {"address": address}
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**options)
            # Ray takes the signal over, with a trace on stderr and an exit code of its own.
            if before is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)
        except Exception as error:  # Ray raises that itself where its parts do not start in time
            where = "of this machine did not start" if address is None else f"cluster at {address} was not reached"
            raise AerogelError(f"address: the Ray {where}: {' '.join(str(error).split()):.200}") from error
    try:
        cpus = float(ray.cluster_resources().get("CPU", 0))
        yield workers or max(1, int(cpus // threads))
    finally:
        if ours:
            ray.shutdown()


def run(
    ledger: Ledger,
    task: Task,
    schema: Any,
    sources: Sequence[Source],
    folder: Path,
    threads: int,
    workers: int,
    done: Done,
) -> None:
    """Has all parts written. A worker that is lost is replaced, and its part is given to another one.

    Raises:
        AerogelError: a part cannot be made, or too many workers are lost over it.
    """
    import ray

    actor_class = ray.remote(_Worker).options(num_cpus=threads, max_restarts=0, max_task_retries=0)
    #: What each worker is at: its part, or None while it loads.
    running: dict[Any, tuple[Any, Part | None]] = {}

    def launch() -> None:
        actor = actor_class.remote()
        running[actor.load.remote(task, schema, folder, threads)] = (actor, None)

    try:
        for _ in range(min(workers, len(ledger))):
            launch()
        while running:
            [future], _ = ray.wait(list(running), num_returns=1)
            actor, part = running.pop(future)
            lost, seconds = _result(future, part)
            if lost is not None:
                ray.kill(actor)
                if part is None:
                    ledger.start_lost(lost)
                else:
                    ledger.lost(part, lost)
                launch()
                continue
            if part is None:
                ledger.started()
            else:
                done(part, seconds)
            following = ledger.take()
            if following is None:
                ray.kill(actor)
            else:
                running[actor.write.remote(sources[following.file], following)] = (actor, following)
    finally:
        for actor, _ in running.values():
            ray.kill(actor)


def _result(future: Any, part: Part | None) -> tuple[str | None, float]:
    """Why the worker was lost, None if it was not; and the seconds that it took.

    Raises:
        AerogelError: it says that it cannot do it.
    """
    import ray

    try:
        result = ray.get(future)
    except ray.exceptions.RayTaskError as error:
        where = "a worker could not start" if part is None else part.name
        raise AerogelError(f"{where}: {type(error.cause).__name__}: {error.cause}") from error
    except ray.exceptions.RayError as error:
        return " ".join(str(error).split())[:200], 0.0
    if isinstance(result, _Failure):
        raise _error(result)
    return None, result or 0.0


def _error(failure: _Failure) -> AerogelError:
    """What a worker raised, as far as a kind and a text can say."""
    kind = getattr(errors, failure.kind, AerogelError)
    if kind is errors.MissingTensorsError:
        kind = errors.CheckpointError
    found: AerogelError = kind(failure.text)
    return found
