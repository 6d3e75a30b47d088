"""The parent's side of a trial: memory admission, the child, its limits in time, its peak RSS.

The only place that starts `agent.trial`. Whatever the child does, the caller gets a `TrialResult`
or a `DeviceError`, and no process is left behind.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec
import psutil

from agent import errors
from agent.trial import TrialReport, TrialResult
from contract.deployments import Cause
from contract.manifest import Variant

TRIAL_TIMEOUT_S = 120.0
SAMPLE_EVERY_S = 0.02
MAX_REPORT_BYTES = 64 * 1024
RUNTIME_BYTES = 64 * 1024 * 1024
"""A Python with a runtime loaded, before any model (measured: 55 to 69 MB)."""
COPIES_OF_MODEL = 3
"""A runtime holds the file, its own graph and its arena: a guess from above where the manifest
states no memory."""

_ERRORS: dict[Cause, type[errors.DeviceError]] = {
    kind.cause: kind
    for kind in (
        errors.Incompatible,
        errors.Malformed,
        errors.OutOfMemory,
        errors.Tampered,
        errors.TrialFailed,
    )
}


class TrialCancelled(Exception):
    """The main loop has moved on; nobody waits for this trial any more."""


def available_memory() -> int:
    """What can be given to a new process without swapping."""
    return int(psutil.virtual_memory().available)


def require_memory(variant: Variant, available: int) -> None:
    """Raise `OutOfMemory` with both figures when a trial would not fit beside what serves."""
    estimate = RUNTIME_BYTES + COPIES_OF_MODEL * variant.model.length
    needed = max(variant.requires.memory_bytes, estimate)
    if available < needed:
        raise errors.OutOfMemory(
            f"a trial of {variant.name} needs {needed // 1024} KiB; {available // 1024} KiB are"
            " available"
        )


def run_trial(
    directory: Path,
    variant: str,
    digest: str,
    cancelled: Callable[[], bool],
    timeout_s: float = TRIAL_TIMEOUT_S,
    command: tuple[str, ...] = (sys.executable, "-m", "agent.trial"),
) -> TrialResult:
    """Run one trial in a child; blocks. Raises `TrialFailed`, `Crashed`, `OutOfMemory`, ..."""
    arguments = [*command, "--directory", str(directory), "--variant", variant, "--digest", digest]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=complaints)
        try:
            peak = _watch(child, cancelled, time.monotonic() + timeout_s, timeout_s)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
        return _judge(child.returncode, _tail(out), _tail(complaints), peak)


def _watch(
    child: subprocess.Popen[bytes], cancelled: Callable[[], bool], until: float, timeout_s: float
) -> int:
    process, peak = psutil.Process(child.pid), 0
    while child.poll() is None:
        if cancelled():
            raise TrialCancelled
        if time.monotonic() > until:
            raise errors.TrialFailed(f"the trial was not done after {timeout_s:.0f} s")
        try:
            peak = max(peak, int(process.memory_info().rss))
        except psutil.Error:
            break
        time.sleep(SAMPLE_EVERY_S)
    child.wait()
    return peak


def _judge(code: int, out: bytes, complaints: bytes, peak: int) -> TrialResult:
    if code == -signal.SIGKILL:
        raise errors.OutOfMemory(
            f"the trial was killed at {peak // 1024} KiB, as the kernel does without memory"
        )
    if code < 0:
        name = signal.Signals(-code).name
        raise errors.Crashed(f"the trial died of {name}: {_last_line(complaints)}")
    try:
        report = msgspec.json.decode(out, type=TrialReport)
    except (msgspec.MsgspecError, ValueError) as error:
        said = _last_line(complaints)
        raise errors.Crashed(f"the trial ended with {code} and no report: {said}") from error
    if report.result is None or report.cause is not None:
        cause = report.cause or Cause.TRIAL_FAILED
        raise _ERRORS.get(cause, errors.TrialFailed)(report.detail)
    return msgspec.structs.replace(report.result, peak_rss_bytes=peak)


def _tail(file: IO[bytes]) -> bytes:
    size = file.seek(0, 2)
    file.seek(max(0, size - MAX_REPORT_BYTES))
    return file.read(MAX_REPORT_BYTES)


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
