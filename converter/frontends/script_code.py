"""What TorchScript's code would reach for beyond its own numbers, found before torch runs it.

TorchScript is a language of its own: torch's interpreter runs its `forward`, and while the file is
read already its `__setstate__`, and neither can call Python. But it has operators that write and
map files, call other machines, and build torch's own native objects. Looks for their names in the
archive; imports nothing of torch, runs nothing.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

MAX_CODE = 64 << 20
"""Bytes of one file of code, or of one pickle of attributes; weights lie elsewhere."""
_NAMES = re.compile(rb"\b(save|from_file|load_tensor|rpc_async|rpc_remote|rpc_sync)\b")
"""Whole words anywhere: what stands around them can be written in many ways."""
_CLASSES = re.compile(rb"\btorch\b(?:[^\w#]|#[^\n]*\n)*\bclasses\b")


def find_reach(path: Path) -> str | None:
    """What the code of the archive at `path` names of that kind, or None.

    Raises `ValueError` and `zipfile.BadZipFile` for a damaged archive.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            code = member.filename.endswith(".py")
            if not code and not member.filename.endswith(".pkl"):
                continue
            if member.file_size > MAX_CODE:
                raise ValueError(f"{member.filename} has more than {MAX_CODE} bytes")
            content = archive.read(member)
            found = _NAMES.search(content) if code else None
            if found is not None:
                return f"its code names {found[1].decode()!r}, which reaches beyond the model"
            if _CLASSES.search(content):
                return "its code names a class of torch itself, which reaches beyond the model"
    return None
