"""Which kind of machine this is, in words that are the same in every process on it.

Owns what tells hosts apart whose latencies differ: architecture, processor or board, number of
processors. Names no person and no machine, since the words go into bundles that others read.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

BOARD = Path("/proc/device-tree/model")
PROCESSORS = Path("/proc/cpuinfo")
_MAX_BYTES = 1 << 16
_MAX_WORDS = 120


def describe_host(board: Path = BOARD, processors: Path = PROCESSORS) -> str:
    """E.g. `x86_64, AMD EPYC 7B13, 2 CPUs`."""
    name = _clean(_start(board)) or _clean(_model_name(_start(processors)))
    count = os.cpu_count() or 1
    cpus = "1 CPU" if count == 1 else f"{count} CPUs"
    return ", ".join(filter(None, (platform.machine(), name, cpus)))


def _start(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("ascii", errors="ignore")
    except OSError:
        return ""


def _model_name(text: str) -> str:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == "model name":
            return value
    return ""


def _clean(text: str) -> str:
    """One line of printable words; the kernel ends a board's name with a zero byte."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_MAX_WORDS]
