"""Unix sockets as the server and its clients use them: private, replaced when stale, any length.

A socket's address holds about 100 bytes, a state folder's path may be longer. Longer paths go
through a file descriptor of the folder (`/proc/self/fd/N/name`), which Linux resolves at bind and
connect alike.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_ADDRESS_BYTES = 100


def bind_unix(path: Path, mode: int = 0o600) -> socket.socket:
    """A listening socket at `path`; whatever stood there is replaced.

    The caller holds the state folder's lock, so what stands there is left from a dead server.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as address:
            # A file is born with 0777 & ~umask; nobody may connect before the chmod.
            before = os.umask(0o177)
            try:
                listener.bind(address)
            finally:
                os.umask(before)
        path.chmod(mode)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def connect_unix(path: Path, timeout_s: float) -> socket.socket:
    """A connected socket; raises `OSError` when nothing listens at `path`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        with _short(path) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    if len(os.fsencode(path)) <= _ADDRESS_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
