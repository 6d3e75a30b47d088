"""Runs the demo from an empty folder to its report; no process outlives it, whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from outrider.demo import record
from outrider.demo.opening import open_stage
from outrider.demo.options import DemoOptions
from outrider.demo.output import Narrator
from outrider.demo.processes import Processes
from outrider.demo.releases import open_workshop
from outrider.demo.report import write_report
from outrider.demo.scenes import SCENES
from outrider.errors import CommandFailed
from outrider.operator import OperatorConfig, write_operator
from outrider.signals import NUMBERS, Stopped
from outrider.terminal import note, say


def run(options: DemoOptions) -> None:
    """Play all scenes; raises `CommandFailed` with what did not come true."""
    began = time.monotonic()
    narrator = Narrator()
    _require_report_folder(options.report)
    with interruptible(), _folder() as root, Processes(root / "logs") as processes:
        try:
            workshop = open_workshop(root / "work")
            with narrator.scene(1, "hub, broker and devices"):
                stage = open_stage(root, options, narrator, processes, workshop)
            figures = record.Figures()
            try:
                for number, title, scene in SCENES:
                    with narrator.scene(number, title):
                        scene(stage, figures)
                seconds = time.monotonic() - began
                write_report(options.report, stage, narrator, figures, seconds)
                narrator.summary(seconds)
                say(f"{options.report}/: report.html, events.jsonl, bundles")
                if options.keep:
                    _wait_for_interrupt(root, stage.operator)
            finally:
                stage.close()
        except CommandFailed:
            kept = _keep_logs(root / "logs", options.report)
            note(f"logs of all processes: {kept}")
            raise


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A short path, since unix sockets must fit into about 100 characters."""
    with tempfile.TemporaryDirectory(prefix="outrider-") as name:
        yield Path(name)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP unwind the demo, so that its processes are ended."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        # Unbuffered: the signal may have come while something was being printed.
        os.write(sys.stderr.fileno(), b"\nstopping ...\n")
        raise Stopped

    before = {n: signal.signal(n, interrupt) for n in NUMBERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_report_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise CommandFailed(f"{folder} is a file: name another folder with --report")
    ours = {"report.html", "events.jsonl", "bundles", "logs"}
    if folder.is_dir() and {path.name for path in folder.iterdir()} - ours:
        raise CommandFailed(f"{folder} holds other files: name another folder with --report")
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise CommandFailed(
            f"the report cannot be written to {folder} ({there}: {error.strerror}): name another"
            " folder with --report"
        ) from error


def _keep_logs(logs: Path, report: Path) -> Path:
    kept = report / "logs"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(logs, kept)
    return kept


def _wait_for_interrupt(root: Path, operator: OperatorConfig) -> None:
    config = root / "operator.json"
    write_operator(config, operator)
    note(f"all is left running until Ctrl-C. Try: outrider rollout list --config {config}")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()
