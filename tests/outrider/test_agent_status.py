"""`outrider agent status`: dates for people, and a word in time about the certificate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.lock import StateLock
from agent.status import AgentStatus, write_status
from outrider.__main__ import main
from outrider.commands.agent import certificate_warnings

DAY_MS = 86_400_000
BEGIN_MS = 1_795_000_000_000
END_MS = BEGIN_MS + 90 * DAY_MS
CERTIFICATE = {"certificate_begins_ms": BEGIN_MS, "certificate_ends_ms": END_MS}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A daemon that runs, on the 61st of its certificate's 90 days."""
    lock = StateLock(tmp_path)
    lock.acquire()
    status = AgentStatus(
        device="cam-1", agent="outrider", pid=1, at_ms=BEGIN_MS + 61 * DAY_MS,
        started_at_ms=BEGIN_MS, clock_trusted=True, hub_url="https://hub", broker="hub:1",
        connected=False, renewal_error="cannot reach the hub",
        certificate_begins_ms=BEGIN_MS, certificate_ends_ms=END_MS,
    )  # fmt: skip
    write_status(tmp_path, status)
    yield tmp_path
    lock.release()


def test_times_are_dates_and_the_certificate_is_warned_of(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agent", "status", "--state", str(state)]) == 0
    shown = capsys.readouterr().out
    assert str(BEGIN_MS) not in shown
    assert "_ms" not in shown
    assert "2026-11-18 11:06:40Z" in shown
    assert "warning: the certificate ends on 2027-02-16" in shown
    assert "cannot reach the hub" in shown


def test_a_script_still_reads_milliseconds(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "status", "--state", str(state), "--json"]) == 0
    assert f'"certificate_begins_ms": {BEGIN_MS}' in capsys.readouterr().out


@pytest.mark.parametrize(("day", "said"), [(0, ""), (59, ""), (61, "was due"), (90, "ended on")])
def test_the_last_third_is_worth_a_warning(day: int, said: str) -> None:
    told = list(certificate_warnings(CERTIFICATE | {"at_ms": BEGIN_MS + day * DAY_MS}))
    assert bool(told) == bool(said)
    assert said in "".join(told)


def test_a_certificate_of_which_nothing_is_known_is_not_warned_of() -> None:
    assert not list(certificate_warnings({"at_ms": BEGIN_MS, "certificate_ends_ms": BEGIN_MS}))
