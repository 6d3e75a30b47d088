"""Files that are whole or not there, whenever the power goes.

POSIX: a rename is atomic, but only fsync of the file *and* of its folder makes it last. Several may
write one path at once: the last one to end wins. (A device writes by agent.store.durable, where at
most one file is left behind by a crash, and a full disk is told apart.)
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """Replace `path` by `data`; durable when it returns. Raises `OSError`, leaving the old file."""
    with replacing(path, mode) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, mode: int) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` when the block ends well, durable by then.

    It has `mode` before anything is in it. Raises `OSError` that names `path`.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:  # its reader knows the path, and no file beside it
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
