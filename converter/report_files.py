"""The report's two files: as they stand in the bundle, and a fuller pair beside it when asked for.

What this host measured in time is only in the pair beside it: the bundle's bytes depend on nothing
but its inputs (docs/adr/0011).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec

from converter.errors import OutputUnwritable
from converter.page import Timing, render
from converter.report import EvaluationReport, encode_report

JSON_PATH = "report.json"
HTML_PATH = "report.html"


def report_files(report: EvaluationReport) -> dict[str, bytes]:
    """The bundle's hub files by path; equal reports give equal bytes."""
    return {HTML_PATH: render(report), JSON_PATH: encode_report(report)}


def write_full_report(directory: Path, report: EvaluationReport, timing: Timing) -> None:
    """Write both files into `directory`, with the latency of this host; raises `OutputUnwritable`.

    An older report is replaced, each file by one rename.
    """
    timed = {
        **msgspec.to_builtins(report),
        "host": timing.host,
        "latency_p50_ms": dict(timing.p50_ms),
    }
    encoded = msgspec.json.format(msgspec.json.encode(timed, order="sorted"), indent=1) + b"\n"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _replace(directory / HTML_PATH, render(report, timing))
        _replace(directory / JSON_PATH, encoded)
    except OSError as error:
        raise OutputUnwritable(
            f"{directory}: {error.strerror or 'cannot be written'}; choose another --report"
        ) from error


def write_page(path: Path, report: EvaluationReport) -> None:
    """Write the page alone; raises `OutputUnwritable`."""
    try:
        _replace(path, render(report))
    except OSError as error:
        raise OutputUnwritable(
            f"{path}: {error.strerror or 'cannot be written'}; choose another --html"
        ) from error


def _replace(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
