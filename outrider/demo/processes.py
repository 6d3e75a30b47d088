"""The demo's child processes: each in a group of its own, and none outlives the demo.

A child is its own session's leader, so that its whole group can be cut off at once, as a power
failure would. `Processes` owns them all: leaving it, however that happens, ends every group; and
should the demo itself be killed, outrider.demo.reaper does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from outrider.errors import CommandFailed
from outrider.settings import child_environment

STOP_S = 8.0
POLL_S = 0.05


@dataclass
class Child:
    """One process group and the file that takes its output."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def running(self) -> bool:
        """Whether its first process lives."""
        return self.process.poll() is None

    def cut(self) -> None:
        """End the whole group at once, unasked: what a power cut looks like from outside."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def ask_to_stop(self) -> None:
        """SIGTERM to the whole group."""
        self._signal(signal.SIGTERM)

    def tail(self, lines: int = 8) -> str:
        """The end of its output, for an error message."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@dataclass
class Processes:
    """Starts children and ends them all; use it as a context manager."""

    logs: Path
    children: list[Child] = field(default_factory=list)
    reaper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Processes:
        self.logs.mkdir(parents=True, exist_ok=True)
        self.reaper = subprocess.Popen(
            [sys.executable, "-m", "outrider.demo.reaper"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop_all()
        finally:
            if self.reaper is not None and self.reaper.stdin is not None:
                self.reaper.stdin.close()
                self.reaper.wait()

    def start(self, name: str, module: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Run `python -m MODULE...` in a new session, with `environment` added to our own."""
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**child_environment(), **environment},
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._tell_reaper(f"+{process.pid}")
        self.children = [c for c in self.children if c.name != name] + [child]
        return child

    def cut(self, child: Child) -> None:
        """A power cut for one group, which then is no longer expected to run."""
        child.cut()
        self._tell_reaper(f"-{child.process.pid}")
        self.children.remove(child)

    def stop_all(self) -> None:
        """Ask every group, wait a little, then end what is left."""
        for child in self.children:
            child.ask_to_stop()
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline and any(c.running for c in self.children):
            time.sleep(POLL_S)
        for child in list(self.children):
            self.cut(child)

    def require_running(self) -> None:
        """Raise `CommandFailed` with the end of its log when a child has died by itself."""
        for child in self.children:
            if not child.running:
                raise CommandFailed(
                    f"{child.name} ended by itself with {child.process.returncode}; its log"
                    f" {child.log} ends: {child.tail()}"
                )

    def _tell_reaper(self, line: str) -> None:
        if self.reaper is not None and self.reaper.stdin is not None:
            self.reaper.stdin.write(line.encode() + b"\n")
            self.reaper.stdin.flush()
