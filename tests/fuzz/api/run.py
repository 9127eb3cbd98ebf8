"""Runs the calls: seeded, counted, with a reproduction of what is found.

    python -m tests.fuzz.api.run [--seed N] [--seconds S] [--count N] [--only NAME] [--what arguments|files|commands]

Ends with status 1 if a call did anything but return or raise an AerogelError.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import logging
import os
import random
import reprlib
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Seconds that a call may take.
PATIENCE = 30
#: Bytes of address space of the process.
MEMORY = 12 << 30


@dataclass(frozen=True)
class Finding:
    """What a call did that it must not: `kind` is where and what, for counting; `text` says how to see it again."""

    kind: str
    text: str


class TooSlow(BaseException):
    """A call did not come back in time. No Exception: nobody is to catch it."""


def run_once(name: str, function: Callable[..., Any], arguments: dict[str, Any], seed: str) -> Finding | None:
    """Calls it; None where it returned or raised an AerogelError."""
    from aerogel.errors import AerogelError

    begin = time.monotonic()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            function(**arguments)
        return None
    except AerogelError:
        return None
    except TooSlow as error:
        return _finding(name, arguments, seed, error, f"slow: {time.monotonic() - begin:.1f} s")
    except BaseException as error:
        return _finding(name, arguments, seed, error, type(error).__name__)


def _finding(name: str, arguments: dict[str, Any], seed: str, error: BaseException, what: str) -> Finding:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/aerogel/" in f.filename]
    place = "; ".join(f"{Path(f.filename).parent.name}/{Path(f.filename).name}:{f.lineno}" for f in frames[-2:])
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = 120
    shown.maxdict = 12
    said = ", ".join(f"{key}={shown.repr(value)}" for key, value in arguments.items())
    kind = f"{name}: {what.split(':')[0]} at {place or '?'}"
    return Finding(kind, f"{kind}\n  {type(error).__name__}: {str(error)[:200]}\n  seed {seed}\n  {name}({said})")


def argument_runs(
    world: Any, seed: int, only: str | None = None
) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any], str]]:
    """Calls with some of their arguments replaced, without end."""
    from .calls import calls
    from .pool import Pool

    table = {name: call for name, call in calls(world).items() if only is None or only == name}
    pool = Pool(world.scratch)
    names = [name for name, call in table.items() for _ in range(call.weight)]
    number = 0
    while True:
        number += 1
        rng = random.Random(f"{seed}/{number}")
        name = rng.choice(names)
        call = table[name]
        arguments = dict(call.arguments)
        if arguments:
            for key in rng.sample(list(arguments), min(len(arguments), rng.choice([1, 1, 1, 2, 3]))):
                arguments[key] = pool.draw(rng, arguments[key], small=key in call.slow)
        yield name, call.function, arguments, f"{seed}/{number}"


def _alarm(*_: Any) -> None:
    raise TooSlow


def prepare(root: Path) -> Any:
    """A world to fuzz in: nothing outside `root` is touched, and nothing is downloaded."""
    os.environ.update(
        AEROGEL_TUNE="off",
        HF_HUB_OFFLINE="1",
        AEROGEL_CACHE=str(root / "cache"),
        HOME=str(root),
        HF_HOME=str(root / "hf"),
    )
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    from .world import World

    return World(root)


def fuzz(
    runs: Iterator[tuple[str, Callable[..., Any], dict[str, Any], str]], count: int, seconds: float
) -> tuple[int, Counter[str], list[Finding]]:
    """At most `count` calls in `seconds`: how many there were, how often each kind was found, and the first of each kind."""
    found: dict[str, Finding] = {}
    often: Counter[str] = Counter()
    end, done = time.monotonic() + seconds, 0
    before = signal.signal(signal.SIGALRM, _alarm)
    try:
        for name, function, arguments, seed in runs:
            if done >= count or time.monotonic() > end:
                break
            done += 1
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            faulthandler.dump_traceback_later(4 * PATIENCE, exit=True)
            finding = run_once(name, function, arguments, seed)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if finding is not None:
                often[finding.kind] += 1
                found.setdefault(finding.kind, finding)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
    return done, often, list(found.values())


def _file_runs(world: Any, seed: int, only: str | None = None) -> Iterator[Any]:
    from .files import file_runs

    return file_runs(world, seed, only)


def _command_runs(world: Any, seed: int, only: str | None = None) -> Iterator[Any]:
    from .commands import command_runs

    return command_runs(world, seed, only)


#: What is hostile -> the calls.
KINDS = {"arguments": argument_runs, "files": _file_runs, "commands": _command_runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--only")
    parser.add_argument("--what", choices=("arguments", "files", "commands"), default="arguments")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as name:
        world = prepare(Path(name).resolve())
        runs = KINDS[options.what](world, options.seed, options.only)
        begin = time.monotonic()
        done, often, found = fuzz(runs, options.count, options.seconds)
        seconds = time.monotonic() - begin
        os.chdir("/")
    for finding in sorted(found, key=lambda f: f.kind):
        print(f"{finding.text}\n  found {often[finding.kind]} times\n")
    print(f"seed {options.seed}: {done} calls in {seconds:.0f} s, {len(found)} kinds of faults")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
