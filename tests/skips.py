"""With AEROGEL_STRICT_SKIPS=1, as in continuous integration, a skip that tests/allowed_skips.txt does not list is a failure.

So a package that was not installed, a download that failed or a condition that became always true cannot hide tests. In a
run of everything, entries that no skip needs are failures too, but for those that are marked `may`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_name("allowed_skips.txt")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """What a skip says; None where nothing was skipped."""
    if report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return None
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple | list) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


@dataclass(frozen=True)
class Allowed:
    """A line of the file.

    Attributes:
        always: skipped wherever all tests run; else it depends on the machine.
        tests: a pattern of shell wildcards for the tests' ids.
        reason: a regular expression, found at the beginning of what the skip says.
    """

    always: bool
    tests: str
    reason: str

    def covers(self, test: str, reason: str) -> bool:
        # Ids of parameters stand in brackets, which are wildcards to fnmatch.
        return fnmatchcase(test.replace("[", "("), self.tests.replace("[", "(")) and bool(re.match(self.reason, reason))


def read(lines: Iterable[str]) -> list[Allowed]:
    """The entries; raises ValueError with the line that is none."""
    found, explained = [], False
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            explained = bool(text)
            continue
        parts = [part.strip() for part in text.split(" | ")]
        if len(parts) != 3 or parts[0] not in ("always", "may"):
            raise ValueError(f"{FILE.name}: line {number}: expected always|may, tests and reason with | between")
        if not explained:
            raise ValueError(f"{FILE.name}: line {number}: expected a comment above it: why it may be skipped")
        found.append(Allowed(parts[0] == "always", parts[1], parts[2]))
    return found


class StrictSkips:
    """The pytest plugin. With pytest-xdist workers judge, and the process that started them learns of it from reports."""

    def __init__(self, allowed: list[Allowed]) -> None:
        self.allowed = allowed
        self.used: set[Allowed] = set()
        self.stale: list[Allowed] = []
        self.whole = True

    def judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if (reason := _reason(report)) is None:
            return
        if not any(entry.covers(report.nodeid, reason) for entry in self.allowed):
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid}: skipped: {reason}\nThis skip is not in tests/{FILE.name}."

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self.judge(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        self.judge(report)
        return report

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Allowances that a skip needed."""
        if (reason := _reason(report)) is not None:
            self.used.update([entry for entry in self.allowed if entry.covers(report.nodeid, reason)][:1])

    pytest_runtest_logreport = note
    pytest_collectreport = note

    def pytest_deselected(self) -> None:
        self.whole = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.whole = self.whole and node.workeroutput.get("whole", False)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output["whole"] = self.whole
            return
        whole = self.whole and session.config.args_source is pytest.Config.ArgsSource.TESTPATHS
        if not whole or session.config.option.collectonly:
            return
        self.stale = [entry for entry in self.allowed if entry.always and entry not in self.used]
        if self.stale and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for entry in self.stale:
            terminalreporter.write_line(
                f"tests/{FILE.name}: nothing is skipped any more: {entry.tests} | {entry.reason}", red=True
            )


def register(config: pytest.Config) -> None:
    if os.environ.get("AEROGEL_STRICT_SKIPS") == "1":
        config.pluginmanager.register(StrictSkips(read(FILE.read_text(encoding="utf-8").splitlines())), "strict-skips")
