"""Ctrl-C, SIGTERM and SIGHUP unwind a command, so that what it had begun is taken away again.

Owns the exit code, 128 and the signal's number. Remembers that a signal came, because libraries
turn the exception into one of their own: a C extension that is being imported says ImportError.
A signal that whoever started us wants ignored (`nohup`) stays ignored.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal told the command to end.

    Not KeyboardInterrupt itself: CPython remembers for good that this very class left an
    `exec` of source text, as dataclasses and named tuples make their methods, and then lets
    `python -m` end by SIGINT whatever exit code was asked for (`run_eval_code_obj` in
    Python/pythonrun.c, `Py_RunMain` in Modules/main.c).
    """


@dataclass
class Received:
    """The first signal that came, or None."""

    number: int | None = None

    @property
    def exit_code(self) -> int:
        """As a shell has it; of Ctrl-C where an interrupt came by another way."""
        return 128 + (self.number or signal.SIGINT)


@contextlib.contextmanager
def unwinding() -> Iterator[Received]:
    """Within it a signal raises `Stopped` in the main thread; nothing changes in another one."""
    received = Received()

    def stop(number: int, _frame: FrameType | None) -> None:
        received.number = received.number or number
        raise Stopped

    before = {}
    if threading.current_thread() is threading.main_thread():
        heard = [n for n in NUMBERS if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
