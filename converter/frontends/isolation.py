"""Runs one job of a foreign library in a process of its own, bounded in time, memory and words.

Whatever happens to that process (an exception, a signal, silence) becomes one named error with the
last lines that it wrote. Neither it nor its children outlive the call.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter import errors
from converter.frontends.settings import worker_environment

ROOT = Path(__file__).resolve().parents[2]
"""Where the packages lie, for a worker whose working directory is elsewhere."""
MAX_ANSWER = 1 << 20
MAX_RESULT = 2 << 30
MAX_MESSAGE = 1_000
_TAIL_BYTES, _TAIL_LINES, _TAIL_LENGTH = 16_384, 3, 400
_KINDS: dict[str, type[errors.ConvertError]] = {
    kind.__name__: kind
    for kind in (
        errors.AlreadyQuantised,
        errors.ExtraMissing,
        errors.FrontendFailed,
        errors.InvalidModel,
        errors.InvalidOutput,
        errors.ModelFailed,
        errors.NonFiniteWeights,
        errors.NotTflite,
        errors.PickleNotTrusted,
        errors.ShapeUnknown,
        errors.SourceDamaged,
        errors.UnknownFormat,
        errors.UnsupportedOperator,
        errors.UnsupportedTensor,
    )
}
"""What a worker may answer: it names an error, and cannot make us raise another one."""


@dataclass(frozen=True)
class Limits:
    """Of one job: wall-clock seconds, and bytes of private memory."""

    timeout_s: float
    memory_bytes: int


def run_job(job: str, model: Path, work: Path, limits: Limits, **request: Any) -> Mapping[str, Any]:
    """Run `converter.frontends.jobs.JOB` on `model`; files that it makes lie in `work`.

    Raises the `ConvertError` that the job named, `FrontendCrashed` or `FrontendTimedOut`.
    """
    asked = work / "request.json"
    content = {**request, "model": str(model.absolute()), "memory_bytes": limits.memory_bytes}
    asked.write_text(json.dumps(content))
    command = [sys.executable, "-m", "converter.frontends.worker", job, str(asked)]
    run_process(command, model, work, limits, worker_environment(ROOT))
    return read_answer(model, work / "result.json")


def run_process(
    command: Sequence[str],
    model: Path,
    work: Path,
    limits: Limits,
    environment: Mapping[str, str],
) -> None:
    """Run `command` in `work` to its end; raises `FrontendCrashed` or `FrontendTimedOut`."""
    log = work / "log.txt"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=work,
            # Killed, a library leaves its scratch files; they go away with `work`.
            env={**environment, "TMPDIR": str(work)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            status = process.wait(limits.timeout_s)
        except subprocess.TimeoutExpired as error:
            raise errors.FrontendTimedOut(
                f"{model}: no result after {limits.timeout_s:g} s{last_words(log)}; give a smaller"
                " model or a longer --source-timeout"
            ) from error
        finally:  # also on Ctrl-C
            _end(process)
    if status != 0:
        raise errors.FrontendCrashed(f"{model}: the tool {_how(status)}{last_words(log)}")


def read_answer(model: Path, path: Path) -> Mapping[str, Any]:
    """What the worker wrote; raises the error that it names."""
    try:
        if path.stat().st_size > MAX_ANSWER:
            raise errors.FrontendCrashed(f"{model}: the tool gave an endless answer")
        answer = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise errors.FrontendCrashed(f"{model}: the tool ended without an answer") from error
    if "error" in answer:
        kind = _KINDS.get(str(answer["error"]), errors.FrontendFailed)
        message = str(answer["message"])[:MAX_MESSAGE]
        raise kind(message if answer.get("whole") else f"{model}: {message}")
    result: Mapping[str, Any] = answer
    return result


def read_result(model: Path, path: Path) -> bytes:
    """A file that the worker made, bounded."""
    try:
        if not 0 < path.stat().st_size <= MAX_RESULT:
            raise errors.FrontendFailed(f"{model}: the converted model is empty or beyond 2 GiB")
        return path.read_bytes()
    except OSError as error:
        raise errors.FrontendFailed(f"{model}: the tool wrote no model") from error


def last_words(log: Path) -> str:
    """The last lines of the log as a clause of a sentence, or nothing."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    words = " | ".join(lines[-_TAIL_LINES:])[-_TAIL_LENGTH:]
    # What a library prints may hold escape sequences; a terminal is not to obey them.
    clean = "".join(c if c.isprintable() else "?" for c in words)
    return f" (it said last: {clean})" if clean else ""


def _how(status: int) -> str:
    if status > 0:
        return f"ended with status {status}"
    try:
        return f"crashed with {signal.Signals(-status).name}"
    except ValueError:
        return f"crashed with signal {-status}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process and what it started: they are a session of their own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
