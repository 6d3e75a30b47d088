"""Writing so that a power cut leaves the old bytes or the new ones, and nothing between.

POSIX: a rename is atomic, but only fsync of the file *and* of its directory makes it last. A full
disk is told apart from every other failure, since the device goes on serving with one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from agent.errors import DiskFailed, DiskFull

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAILING = ("disk I/O error", "readonly database", "is locked", "unable to open")
"""How SQLite words it. A full disk is an I/O error too, where it hits the shared memory file."""


@contextlib.contextmanager
def disk_full_is_named(what: str) -> Iterator[None]:
    """Turn ENOSPC and EDQUOT into `DiskFull` that names what was being written."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(f"no room left while writing {what}") from error
        raise


def disk_error(error: BaseException, what: str) -> DiskFull | None:
    """What the disk has to do with SQLite's error; None when it is our own mistake."""
    if not isinstance(error, sqlite3.OperationalError):
        return None
    if "is full" in str(error):
        return DiskFull(f"no room left for {what}")
    if any(words in str(error) for words in _FAILING):
        return DiskFailed(f"{what} cannot be written: {error}")
    return None


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data`; durable when it returns. Raises `DiskFull`, leaving the old file.

    The temporary file's name is fixed, so that a crash leaves at most one, and the next write
    goes over it.
    """
    temporary = path.with_name(path.name + ".new")
    with disk_full_is_named(path.name):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        os.replace(temporary, path)
        sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Make a file's bytes last."""
    _sync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Make the names in a directory last."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
