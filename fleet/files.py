"""How the hub writes its files: whole, durable, and private unless said otherwise."""

from __future__ import annotations

from pathlib import Path

from model import whole_file


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that it is either whole or as it was, also after a power cut."""
    whole_file.write_whole(path, data, mode)
