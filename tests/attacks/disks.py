"""A small ext4 of its own, in a file: it can be filled to the last byte, and lose power.

Needs root, for a loop mount; whoever is not gets a skip that says so. `cut` is EXT4_IOC_SHUTDOWN
without a flush of the journal: what was not synced by then is gone, as when power goes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)
_BYTES = 28 << 20
_SIZES = (1 << 16, 4096, 1)


class SmallDisk:
    """One image file and where it is mounted; `mount` and `unmount` may be repeated."""

    def __init__(self, directory: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("a loop mount needs root")
        self.image = directory / "disk.img"
        self.path = directory / "disk"
        self._filler = self.path / "filler"
        self.path.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(_BYTES)
        _call("mkfs.ext4", "-q", "-F", "-m", "0", str(self.image))

    def mount(self) -> None:
        """Replays the file system's journal, as a boot does."""
        try:
            _call("mount", "-o", "loop", str(self.image), str(self.path))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no loop mount here: {error.stderr.decode().strip()}")

    def unmount(self) -> None:
        """No error when it is not mounted."""
        if self.path.is_mount():
            _call("umount", str(self.path))

    def close(self) -> None:
        """Also while a failed test still holds a file of it."""
        if self.path.is_mount():
            _call("umount", "-l", str(self.path))

    def fill(self) -> None:
        """To the last byte."""
        with self._filler.open("ab", buffering=0) as file:
            for size in _SIZES:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * size)
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())

    def free(self) -> None:
        """Take the filling away."""
        self._filler.unlink(missing_ok=True)

    def cut(self) -> None:
        """Power goes: from here on every write fails, and what was not synced is lost."""
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(folder)

    def copy_from(self, image: Path) -> None:
        """Another disk's content."""
        shutil.copyfile(image, self.image)


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
