"""Whether there is room on the disk, asked before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from agent.errors import DiskFull

MARGIN_BYTES = 16 * 1024 * 1024
"""Left for the journal, the outbox and the system: an update never takes the last bytes."""


def free_bytes(directory: Path) -> int:
    """What an unprivileged program may still write here."""
    return shutil.disk_usage(directory).free


def require_space(directory: Path, needed: int) -> None:
    """Raise `DiskFull` with both figures when `needed` bytes do not fit."""
    free = free_bytes(directory)
    if free < needed + MARGIN_BYTES:
        raise DiskFull(
            f"needs {needed} bytes and {MARGIN_BYTES} to spare; {free} are free on this disk"
        )
