"""Ctrl-C, SIGTERM and kill -9 in the middle of the demo: no process stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).parents[2]
PATIENCE_S = 60.0


def processes_under(root: str) -> list[str]:
    """Command lines of the processes that work in the demo's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if root in line:
            found.append(line)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_stays_behind(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    demo = subprocess.Popen(
        [sys.executable, "-m", "outrider", "demo", "--agents", "3", "--report", "report"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert demo.stdout is not None
    until_devices_are_up(demo)
    started = processes_under(str(tmp_path / "outrider-"))
    assert sum("agent" in line for line in started) >= 3
    assert any("mosquitto" in line for line in started)
    demo.send_signal(number)
    rest = demo.communicate(timeout=PATIENCE_S)[0]
    assert "Traceback" not in rest
    assert ("stopping ..." in rest) == (number != signal.SIGKILL)
    assert status_in_a_shell(demo.returncode) == (137 if number == signal.SIGKILL else 130)
    deadline = time.monotonic() + PATIENCE_S
    while left := processes_under(str(tmp_path / "outrider-")):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def status_in_a_shell(returncode: int) -> int:
    """`$?`. Python itself ends by SIGINT, which a shell shows as 130 too, when the interrupt came
    while a module was being made by `exec`, as dataclasses are."""
    return returncode if returncode >= 0 else 128 - returncode


def until_devices_are_up(demo: subprocess.Popen[str]) -> None:
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("2. "):
            return
    pytest.fail("the demo ended before its devices were up")
