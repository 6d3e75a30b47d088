"""The demo's own parts: nothing survives it, and its verdicts are not blind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from outrider.demo.evidence import bytes_fetched, gaps_and_repeats, refusals, waves_in_words
from outrider.demo.processes import Processes
from outrider.demo.reaper import groups_left
from outrider.errors import CommandFailed

# A process that refuses to stop and has a child: what a stuck agent with its server looks like.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) < 3:
    subprocess.Popen([sys.executable, __file__, sys.argv[1], "child"])
    open(sys.argv[1], "w").write("up")
time.sleep(60)
"""


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def group(leader: int) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.fixture
def stubborn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
    return ["stubborn", str(tmp_path / "up")]


def test_leaving_ends_every_group_even_one_that_ignores_sigterm(
    tmp_path: Path, stubborn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.demo.processes.STOP_S", 0.3)
    with Processes(tmp_path / "logs") as processes:
        child = processes.start("stubborn", stubborn, {})
        until(lambda: (tmp_path / "up").exists() and len(group(child.process.pid)) == 2)
    assert group(child.process.pid) == []


def test_an_error_inside_ends_every_group_too(
    tmp_path: Path, stubborn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.demo.processes.STOP_S", 0.3)
    leaders: list[int] = []

    def interrupted() -> None:
        with Processes(tmp_path / "logs") as processes:
            leaders.append(processes.start("stubborn", stubborn, {}).process.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert group(leaders[0]) == []


def test_a_power_cut_ends_the_whole_group_and_is_expected(
    tmp_path: Path, stubborn: list[str]
) -> None:
    with Processes(tmp_path / "logs") as processes:
        child = processes.start("stubborn", stubborn, {})
        until(lambda: (tmp_path / "up").exists() and len(group(child.process.pid)) == 2)
        processes.cut(child)
        until(lambda: group(child.process.pid) == [])
        processes.require_running()


def test_a_child_that_dies_by_itself_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as processes:
        child = processes.start("broken", ["no_such_module_anywhere"], {})
        until(lambda: not child.running)
        with pytest.raises(CommandFailed, match="no_such_module_anywhere"):
            processes.require_running()


def test_when_the_demo_is_killed_its_groups_are_ended(tmp_path: Path, stubborn: list[str]) -> None:
    script = tmp_path / "holder.py"
    script.write_text(
        "import sys, time\nfrom pathlib import Path\n"
        "from outrider.demo.processes import Processes\n"
        f"with Processes(Path({str(tmp_path / 'logs')!r})) as processes:\n"
        f"    print(processes.start('s', {stubborn!r}, {{}}).process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    leader = int(holder.stdout.readline())
    until(lambda: (tmp_path / "up").exists())
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    until(lambda: group(leader) == [])


def test_the_reaper_ends_only_what_was_not_taken_back() -> None:
    assert groups_left(["+1\n", "+2\n", "-1\n", "nonsense\n", "+\n", "", "+\u00b2\n"]) == {2}


def test_a_gap_and_a_repetition_are_both_seen() -> None:
    assert gaps_and_repeats([("a", 1), ("a", 2), ("b", 1)]) == []
    assert gaps_and_repeats([("a", 1), ("a", 3)]) == ["a: 1 missing, from 2 on"]
    assert gaps_and_repeats([("a", 1), ("a", 1)]) == ["a: 1 stored twice"]
    assert gaps_and_repeats([("a", 2)]) == ["a: begins at 2"]


def test_only_refusals_with_a_cause_count() -> None:
    events: list[dict[str, Any]] = [
        {"device": "a", "phase": "fetching", "cause": None},
        {"device": "a", "phase": "rejected", "cause": "tampered"},
        {"device": "b", "phase": "committed", "cause": None},
    ]
    assert refusals(events, ["rejected"]) == {"a": "tampered"}


def test_bytes_are_those_that_the_device_measured() -> None:
    events: list[dict[str, Any]] = [
        {"device": "a", "figures": {"bytes_fetched": 10.0, "bytes_full": 100.0}},
        {"device": "b", "figures": {"bytes_fetched": 10.0}},
        {"device": "c", "figures": None},
    ]
    assert bytes_fetched(events) == {"a": (10.0, 100.0)}


def test_waves_are_told_as_cumulative_numbers() -> None:
    rollout = {
        "waves": [{"cumulative": 1}, {"cumulative": 3}, {"cumulative": 6}],
        "counts": {"total": 6},
    }
    assert waves_in_words(rollout) == "1, 3, 6 of 6"
