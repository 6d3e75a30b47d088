"""When a report is made and from what, over restarts of this process and of the server."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.assembly import Parts
from agent.errors import Crashed
from agent.reporting import Reporter
from agent.serving.protocol import ModelCounters, ServerCounters, ServerStatus
from agent.stamps import Stamper
from contract.codec import decode
from contract.messages import Report, ResourceWindow

RESOURCES = ResourceWindow(
    cpu_percent=1.0,
    memory_available_bytes=1,
    rss_control_bytes=1,
    rss_server_bytes=1,
    disk_free_bytes=1,
)


class Surroundings:
    """A server's counters, and the reports that were stored."""

    def __init__(self, state: Path) -> None:
        self.good: int | None = 0
        self.boot = "a" * 32
        self.reports: list[Report] = []
        (state / "run").mkdir()
        self.parts = cast(
            Parts,
            SimpleNamespace(
                settings=SimpleNamespace(state_dir=state, report_seconds=60),
                identity=SimpleNamespace(device="pi-1"),
                speaker=SimpleNamespace(stamper=Stamper("b" * 32, lambda: 5, lambda: 0)),
                resources=SimpleNamespace(window=lambda rss: RESOURCES),
                uplink=SimpleNamespace(report=self._store),
                client=self,
            ),
        )

    def _store(self, make: Any) -> None:
        self.reports.append(decode(Report, make(len(self.reports) + 1)))

    def counters(self) -> ServerCounters:
        if self.good is None:
            raise Crashed("no inference server")
        seen = ModelCounters(
            digest="d" * 64, profile="e" * 64, inferences=self.good, good=self.good
        )
        return ServerCounters(boot=self.boot, families={"digits": seen})

    def status(self) -> ServerStatus:
        return ServerStatus(boot=self.boot, pid=1, rss_bytes=7, port=1)

    def inferences(self) -> list[int]:
        return [
            report.inference["digits"].inferences if report.inference else -1
            for report in self.reports
        ]


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)


def test_a_report_holds_what_came_since_the_last(around: Surroundings) -> None:
    reporter = Reporter(around.parts, 0.0)
    assert not reporter.is_due(59.0)
    assert reporter.is_due(60.0)
    for good in (10, 15):
        around.good = good
        reporter.report(60.0)
    assert around.inferences() == [10, 5]


def test_a_process_that_starts_anew_reports_nothing_twice(around: Surroundings) -> None:
    around.good = 10
    Reporter(around.parts, 0.0).report(60.0)
    around.good = 12
    Reporter(around.parts, 0.0).report(60.0)
    assert around.inferences() == [10, 2]


def test_another_life_of_the_server_is_reported_from_its_start(around: Surroundings) -> None:
    around.good = 10
    Reporter(around.parts, 0.0).report(60.0)
    around.boot, around.good = "c" * 32, 4
    Reporter(around.parts, 0.0).report(60.0)
    assert around.inferences() == [10, 4]


def test_without_a_server_the_difference_waits(around: Surroundings) -> None:
    reporter = Reporter(around.parts, 0.0)
    for good in (10, None, 13):
        around.good = good
        reporter.report(60.0)
    assert around.inferences() == [10, -1, 3]


def test_a_broken_note_is_no_note(around: Surroundings) -> None:
    (around.parts.settings.state_dir / "run" / "reported.json").write_bytes(b"{torn")
    around.good = 10
    Reporter(around.parts, 0.0).report(60.0)
    assert around.inferences() == [10]
