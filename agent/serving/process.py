"""The server's process as the control process sees it: start or attach, watch, restart, stop.

The server is a child in the same process group, and outlives its parent: a control process that
dies or restarts never stops inference, and finds the running server again by its control socket.
Called from one thread. `tick` is cheap and never blocks for long; the caller's loop drives it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from agent.errors import Crashed, DeviceError
from agent.serving.client import ServerClient
from agent.serving.protocol import SERVER_LOCK, ServerStatus, control_socket

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_STEADY_S = 60.0
"""A server that lived this long is not in a crash loop: the next restart comes at once."""
_LOOK_EVERY_S = 10.0
_HUNG_AFTER = 3
"""So many looks without an answer, from a server that did answer once, and it hangs."""
_LONGEST_START_S = 300.0
"""A server that never answered may still load its models, but not for longer than this."""
_log = logging.getLogger(__name__)


class Watch(Enum):
    """What `tick` found."""

    RUNNING = "running"
    RESTARTED = "restarted"
    WAITING = "waiting"
    """Dead, and the backoff is not over."""


@dataclass(frozen=True)
class Launch:
    """How to start the server."""

    state_dir: Path
    port: int
    host: str = "127.0.0.1"
    token_file: Path | None = None
    log_file: Path | None = None
    """None: the parent's own stdout and stderr."""

    def command(self) -> list[str]:
        """The argument list."""
        command = [sys.executable, "-m", "agent.serving", "--state", str(self.state_dir)]
        command += ["--port", str(self.port), "--host", self.host, "--no-notify"]
        if self.token_file is not None:
            command += ["--token-file", str(self.token_file)]
        return command


@dataclass(frozen=True)
class _Process:
    """A process that is not our child. A pid alone may come to name another one."""

    pid: int
    born: bytes


class ServerProcess:
    """Owns the server's process id, whether it started the server or found it."""

    def __init__(
        self,
        launch: Launch,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = 2.0,
    ) -> None:
        self._launch = launch
        self._patience_s = patience_s
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._attached: _Process | None = None
        self._started_at = 0.0
        self._retry_at = 0.0
        self._wait_s = _FIRST_WAIT_S
        self._stopping = False
        self._next_look_at = 0.0
        self._unanswered: int | None = None
        """Looks without an answer since the last one; None until the first answer."""
        self.client = ServerClient(control_socket(launch.state_dir))
        self.restarts = 0
        self.last_end = ""
        """How the last server ended, in words."""

    @property
    def pid(self) -> int | None:
        """The server's process id, None when there is none."""
        if self._child is not None:
            return self._child.pid
        return self._attached.pid if self._attached is not None else None

    @property
    def attached(self) -> bool:
        """Whether the server was running before this object."""
        return self._attached is not None

    def start(self, timeout_s: float = 60.0) -> ServerStatus:
        """Attach to the server that runs, else start one, and wait until it answers.

        Raises `Crashed` when it ends or does not answer in time; `tick` goes on from there.
        """
        status = self._answer()
        if status is not None:
            self._attached = _Process(status.pid, _born(status.pid))
            self._started_at = self._clock()
            _log.info("found the inference server running, pid %d", status.pid)
            return status
        self._attached = _silent_server(self._launch.state_dir)
        self._started_at = self._clock()
        if self._attached is None:
            self._spawn()
        else:
            _log.warning("inference server, pid %d, does not answer yet", self._attached.pid)
        return self.wait_ready(timeout_s)

    def wait_ready(self, timeout_s: float = 60.0) -> ServerStatus:
        """Wait until the server answers; raises `Crashed`."""
        deadline = self._clock() + timeout_s
        while self._clock() < deadline:
            if not self.alive():
                raise Crashed(f"the inference server did not start: {self.last_end}")
            status = self._answer()
            if status is not None:
                return status
            time.sleep(0.02)
        raise Crashed(f"the inference server did not answer within {timeout_s:.0f} s")

    def alive(self) -> bool:
        """Whether the process runs; notes how it ended when it does not."""
        if self._child is not None:
            code = self._child.poll()
            if code is None:
                return True
            self._child = None
            self._ended(_describe(code))
        elif self._attached is not None:
            if _born(self._attached.pid) == self._attached.born != b"":
                return True
            self._attached = None
            self._ended("ended (it was not our child: the exit code is not known)")
        return False

    def tick(self) -> Watch:
        """Start the server again when it is dead and its backoff is over; does not wait for it."""
        if self.alive():
            if self._clock() >= self._next_look_at:
                self._look()
            return Watch.RUNNING
        if self._clock() < self._retry_at:
            return Watch.WAITING
        self.restarts += 1
        self._spawn()
        return Watch.RESTARTED

    def stop(self, timeout_s: float = 15.0) -> None:
        """SIGTERM, then SIGKILL after `timeout_s`; returns when the process is gone."""
        self._stopping = True
        pid = self.pid
        if pid is None or not self.alive():
            return
        for number, wait_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 10.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = self._clock() + wait_s
            while self._clock() < deadline:
                if not self.alive():
                    return
                time.sleep(0.02)
        raise Crashed(f"the inference server, pid {pid}, survived SIGKILL")

    def _look(self) -> None:
        """Kill a server that hangs; the next `tick` finds it dead and starts another."""
        self._next_look_at = self._clock() + _LOOK_EVERY_S
        if self._answer() is not None:
            return
        if self._unanswered is None:
            hangs = self._clock() - self._started_at >= _LONGEST_START_S
        else:
            self._unanswered += 1
            hangs = self._unanswered >= _HUNG_AFTER
        if hangs and self.pid is not None:
            _log.error("inference server, pid %d, hangs: killing it", self.pid)
            os.kill(self.pid, signal.SIGKILL)

    def _ended(self, how: str) -> None:
        """Whoever notices the end first, it is noted once, and the next start planned."""
        self.last_end = how
        if self._stopping:
            return
        now = self._clock()
        if now - self._started_at >= _STEADY_S:
            self._wait_s, self._retry_at = _FIRST_WAIT_S, now
        else:
            self._retry_at = now + self._wait_s
            self._wait_s = min(self._wait_s * 2, _LONGEST_WAIT_S)
        _log.error("inference server %s; next start in %.1f s", how, self._retry_at - now)

    def _spawn(self) -> None:
        with contextlib.ExitStack() as stack:
            log = None
            if self._launch.log_file is not None:
                log = stack.enter_context(self._launch.log_file.open("ab"))
            # Same process group: what cuts the device's power in a test takes both at once.
            self._child = subprocess.Popen(
                self._launch.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._attached, self._unanswered, self._stopping = None, None, False
        self._started_at = self._clock()

    def _answer(self) -> ServerStatus | None:
        try:
            status = self.client.status(timeout_s=self._patience_s)
        except DeviceError:
            return None
        self._unanswered = 0
        return status


def _describe(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _silent_server(state_dir: Path) -> _Process | None:
    """The server that holds this state folder's lock. One that hangs never says who it is, and
    no other can start beside it."""
    try:
        pid = int((state_dir / "run" / SERVER_LOCK).read_bytes()[:16])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    # After a reboot the number may be anyone's, even another device's server.
    if b"agent.serving" not in command or os.fsencode(state_dir) not in command:
        return None
    born = _born(pid)
    return _Process(pid, born) if born else None


def _born(pid: int) -> bytes:
    """When a process started, in the kernel's ticks; empty for none and for a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return b""
    fields = stat.rpartition(b")")[2].split()
    return b"" if fields[0] in (b"Z", b"X") else fields[19]
