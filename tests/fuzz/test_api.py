"""The public API under hostile arguments, files and command lines: a short seeded run, and what the runs are worth."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aerogel
from aerogel import budget, calibrate, evaluate, prune, quantize, report

from .api import run
from .api.pool import Pool

#: Calls of the short run, by what is hostile. `make fuzz-api` runs many more.
COUNTS = {"arguments": 400, "files": 80, "commands": 3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    before, here = dict(os.environ), Path.cwd()
    try:
        yield run.prepare(tmp_path_factory.mktemp("fuzz"))
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
        run.logging.disable(run.logging.NOTSET)


@pytest.mark.parametrize("what", run.KINDS)
def test_only_named_errors(world: Any, what: str) -> None:
    done, _, found = run.fuzz(run.KINDS[what](world, 0), COUNTS[what], 60)
    assert not found, "\n".join(finding.text for finding in found)
    assert done == COUNTS[what] or done > 5  # a slow machine gets through fewer


def test_calls_are_sound_as_they_are(world: Any) -> None:
    """Replaced arguments say something only where the rest is right."""
    from .api.calls import calls

    slow = ("compress", "distill", "finetune", "explain", "sweep")
    table = {name: call for name, call in calls(world).items() if not name.startswith(slow)}
    for call in table.values():
        call.function(**call.arguments)


def test_every_public_function_is_called(world: Any) -> None:
    from .api.calls import calls

    names = " ".join(calls(world))
    public = [("aerogel", aerogel), *((m.__name__, m) for m in (budget, calibrate, evaluate, prune, quantize, report))]
    #: They measure the machine for seconds, need a visitor or a grid of one's own, or are results.
    left = {"machine", "walk", "bf16", "int8", "none", "wilson", "write_report", "page_in"}
    missing = []
    for module, face in public:
        for name in face.__all__:
            value = getattr(face, name)
            if callable(value) and not isinstance(value, type) and name not in left and name not in names:
                missing.append(f"{module}.{name}")
    assert not missing


def test_a_fault_is_found_and_can_be_seen_again() -> None:
    def faulty(x: int) -> float:
        return 1 / x

    assert run.run_once("faulty", faulty, {"x": 1}, "0/1") is None
    finding = run.run_once("faulty", faulty, {"x": 0}, "0/2")
    assert finding is not None and "ZeroDivisionError" in finding.kind
    assert "faulty(x=0)" in finding.text and "seed 0/2" in finding.text

    def named(x: int) -> None:
        raise aerogel.DataError("x")

    assert run.run_once("named", named, {"x": 1}, "0/3") is None


def test_runs_are_the_same_for_a_seed(world: Any) -> None:
    first, again = (
        [(name, sorted(arguments)) for name, _, arguments, _ in itertools.islice(run.argument_runs(world, 3), 50)]
        for _ in range(2)
    )
    assert first == again


def test_large_numbers_are_kept_from_slow_arguments(world: Any) -> None:
    import random

    pool = Pool(world.scratch)
    rng = random.Random(0)
    drawn = [pool.draw(rng, 3, small=True) for _ in range(500)]
    assert all(abs(value) <= 64 for value in drawn if isinstance(value, (int, float)))
