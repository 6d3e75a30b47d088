"""Ends the demo's process groups when the demo itself was killed and could not.

Reads process group numbers from standard input, one a line. `+N` is a group to watch over, `-N` one
that is gone. When the input ends, every group that is left is killed. It is a process of its own,
in a session of its own, because nobody else is left to do this after `kill -9` of the demo.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable


def groups_left(lines: Iterable[str]) -> set[int]:
    """The groups that were announced and not taken back."""
    left: set[int] = set()
    for line in lines:
        text = line.strip()
        if not text.isascii() or not text[1:].isdecimal():
            continue
        if text.startswith("+"):
            left.add(int(text[1:]))
        elif text.startswith("-"):
            left.discard(int(text[1:]))
    return left


def main() -> None:
    """Wait for the end of the input, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for group in groups_left(sys.stdin):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
