"""Ctrl-C, SIGTERM and kill -9 in the middle of the demo: no process stays behind."""

from __future__ import annotations

import os
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
    assert demo.returncode == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while left := processes_under(str(tmp_path / "outrider-")):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


INTERRUPTED_IN_EXEC = """
import os, signal, sys
from outrider.demo.play import interruptible
try:
    with interruptible():
        exec("os.kill(os.getpid(), signal.SIGTERM); [None for _ in range(100)]")
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_signal_within_exec_of_source_text_changes_no_exit_code(tmp_path: Path) -> None:
    (tmp_path / "interrupted_in_exec.py").write_text(INTERRUPTED_IN_EXEC)
    ended = subprocess.run(
        [sys.executable, "-m", "interrupted_in_exec"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (130, "\nstopping ...\n")


def until_devices_are_up(demo: subprocess.Popen[str]) -> None:
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("2. "):
            return
    pytest.fail("the demo ended before its devices were up")
