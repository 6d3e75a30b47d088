"""Measurements kept in a directory of this account, so that a second conversion takes the first's.

Owns the files: one record each, named by the digest of what it is of; 0700, bounded in number and
bytes. The first writer wins: every write is made under one lock, which ends with its process, and
appears by one rename, so that a reader never sees half of a record. What is damaged counts as
absent and is replaced. Believes a directory only that nobody else may write to, since a record
decides what ships.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from converter.measurement import (
    MalformedMeasurement,
    Measurement,
    Subject,
    decode_measurement,
    encode_measurement,
    key_of,
)

MAX_RECORD_BYTES = 4096
MAX_RECORDS = 2000
"""So the whole is at most 8 MB; the record that was written first goes first."""
LOCK_WAIT_S = 5.0
_LOCK, _SUFFIX, _TEMPORARY = "lock", ".json", ".tmp"
_POLL_S = 0.02


def find(directory: Path, subject: Subject, host: str) -> Measurement | None:
    """The record of `subject` on `host`, or None.

    Raises `MalformedMeasurement` for a file that is no such record, `OSError` for the disk and for
    a directory that others may write to.
    """
    path = directory / f"{key_of(subject, host)}{_SUFFIX}"
    try:
        _require_own(directory)
        data = _read(path)
    except FileNotFoundError:
        return None
    found = decode_measurement(data)
    if (found.subject, found.host) != (subject, host):
        raise MalformedMeasurement("a record of something else")
    return found


def keep(directory: Path, measurement: Measurement, *, anew: bool) -> Measurement:
    """Keep `measurement`; returns the one that stands then, which may be another process's.

    `anew`: this one stands in any case. Raises `OSError`; then nothing has changed.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_own(directory)
    with _locked(directory / _LOCK):
        if not anew:
            with contextlib.suppress(OSError, MalformedMeasurement):
                first = find(directory, measurement.subject, measurement.host)
                if first is not None:
                    return first
        _make_room(directory)
        name = f"{key_of(measurement.subject, measurement.host)}{_SUFFIX}"
        _write(directory / name, encode_measurement(measurement))
    return measurement


def _require_own(directory: Path) -> None:
    found = directory.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(directory))
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EACCES, "others may write to it, chmod go-w", str(directory))


def _read(path: Path) -> bytes:
    # Neither follows a link nor waits for a pipe: the name is all that is known of the file.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise MalformedMeasurement("not a file")
        data = file.read(MAX_RECORD_BYTES + 1)
    if len(data) > MAX_RECORD_BYTES:
        raise MalformedMeasurement(f"more than {MAX_RECORD_BYTES} bytes")
    return data


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the directory's lock; raises `TimeoutError` when another process does not let go."""
    with path.open("ab") as file:
        end = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= end:
                    said = "another process holds it for too long"
                    raise TimeoutError(errno.ETIMEDOUT, said, str(path)) from error
                time.sleep(_POLL_S)
        yield


def _make_room(directory: Path) -> None:
    """Leave room for one more record. Under the lock a temporary file is a dead process's."""
    for leftover in directory.glob(f".*{_TEMPORARY}"):
        leftover.unlink(missing_ok=True)
    kept = [(path.lstat().st_mtime_ns, path) for path in directory.glob(f"*{_SUFFIX}")]
    for _, path in sorted(kept)[: max(0, len(kept) - MAX_RECORDS + 1)]:
        path.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
