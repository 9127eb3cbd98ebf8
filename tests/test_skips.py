"""A skip that nobody allowed fails, and an allowance that nothing needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import skips

TESTS = """
import pytest

@pytest.mark.parametrize("isa", ["avx2", "neon"])
def test_isa(isa):
    if isa == "neon":
        pytest.skip("neon: not supported here")

def test_with_fixture(thing):
    pass

@pytest.fixture
def thing():
    pytest.skip("no thing")

@pytest.mark.xfail
def test_that_fails():
    assert False
"""
CONFTEST = """
from tests import skips

def pytest_configure(config):
    config.pluginmanager.register(skips.StrictSkips(skips.read({lines!r})))
"""
ALLOWED = ["# why", "may | test_some.py::test_isa[* | \\w+: not supported", "always | test_some.py::* | no thing"]


def run(folder: Path, lines: list[str], *arguments: str, tests: str = TESTS) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(tests)
    (folder / "conftest.py").write_text(CONFTEST.format(lines=lines))
    (folder / "pytest.ini").write_text("[pytest]\ntestpaths = .\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none is needed, and they take a second to import
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_allowed_skips_pass(tmp_path):
    done = run(tmp_path, ALLOWED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 2 skipped, 1 xfailed" in done.stdout


def test_another_skip_fails_and_is_named(tmp_path):
    done = run(tmp_path, ALLOWED[:2])
    assert done.returncode == 1
    assert "test_some.py::test_with_fixture: skipped: no thing" in done.stdout


def test_a_file_that_skips_itself_fails(tmp_path):
    done = run(tmp_path, [], tests="import pytest\npytest.importorskip('no_such_package')\n")
    assert done.returncode != 0 and "test_some.py: skipped: could not import 'no_such_package'" in done.stdout


def test_an_entry_without_a_skip_fails_where_all_ran(tmp_path):
    stale = [*ALLOWED, "always | test_some.py::test_gone | no cake", "may | test_some.py::test_gone | no pie"]
    done = run(tmp_path, stale)
    assert done.returncode == 1
    assert (
        "nothing is skipped any more: test_some.py::test_gone | no cake" in done.stdout and "no pie" not in done.stdout
    )
    assert run(tmp_path, stale, "-k", "isa").returncode == 0
    assert run(tmp_path, stale, "test_some.py").returncode == 0


def test_workers_judge_too(tmp_path):
    stale = [*ALLOWED[:2], "always | test_some.py::test_gone | no cake"]
    done = run(tmp_path, stale, "-p", "xdist", "-n", "2")
    assert done.returncode == 1
    assert "test_some.py::test_with_fixture: skipped: no thing" in done.stdout
    assert "nothing is skipped any more: test_some.py::test_gone | no cake" in done.stdout


@pytest.mark.parametrize("line", ["test_a.py | why", "sometimes | test_a.py | why", "may | test_a.py | why"])
def test_a_line_that_is_none(line):
    with pytest.raises(ValueError, match="allowed_skips.txt: line 1: expected"):
        skips.read([line])


def test_the_list_is_readable():
    entries = skips.read(skips.FILE.read_text(encoding="utf-8").splitlines())
    assert len(entries) == len(set(entries)) > 0
