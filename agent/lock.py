"""One agent a state directory: an advisory lock that the kernel drops when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from agent.errors import DeviceError

_ASKS, _ASK_EVERY_S = 10, 0.05
"""`is_held` holds the lock for a moment: that is no other agent."""


class AlreadyRunning(DeviceError):
    """Another agent works on this state directory."""


def lock_file(state_dir: Path) -> Path:
    """Where the lock is."""
    return state_dir / "run" / "agent.lock"


class StateLock:
    """Held from `acquire` until `release`, or until the process dies."""

    def __init__(self, state_dir: Path) -> None:
        self._path = lock_file(state_dir)
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raises `AlreadyRunning` that names the holder."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _locked(descriptor):
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise AlreadyRunning(
                f"another agent (process {holder or 'unknown'}) already uses"
                f" {self._path.parent.parent}; stop it first, or give --state another directory"
            )
        with contextlib.suppress(OSError):  # a full disk: then nobody is told who holds it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Safe to call twice. The file stays: removing it would let two agents lock two files."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _locked(descriptor: int) -> bool:
    for _ in range(_ASKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_ASK_EVERY_S)
        else:
            return True
    return False


def is_held(state_dir: Path) -> bool:
    """Whether an agent runs on this directory right now."""
    try:
        descriptor = os.open(lock_file(state_dir), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
