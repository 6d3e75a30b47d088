"""The report's two files: in the bundle, and the same two beside it when asked for."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from converter.errors import OutputUnwritable
from converter.page import render
from converter.report import EvaluationReport, encode_report

JSON_PATH = "report.json"
HTML_PATH = "report.html"


def report_files(report: EvaluationReport) -> dict[str, bytes]:
    """The bundle's hub files by path; equal reports give equal bytes."""
    return {HTML_PATH: render(report), JSON_PATH: encode_report(report)}


def check_report_folder(directory: Path) -> None:
    """Raise `OutputUnwritable` where `write_report` could write nothing; makes nothing."""
    there = next(p for p in (directory.absolute(), *directory.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OutputUnwritable(
            f"{directory}: {there} is no folder that can be written to; choose another --report"
        )


def write_report(directory: Path, report: EvaluationReport) -> None:
    """Write both files into `directory`; raises `OutputUnwritable`.

    An older report is replaced, each file by one rename.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in report_files(report).items():
            _replace(directory / name, data)
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
