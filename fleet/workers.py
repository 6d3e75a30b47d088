"""Threads with an owner: each runs one step again and again until it is told to stop.

A step that fails is logged and tried again after a pause that grows; it never ends the thread, and
never goes unnoticed: `beat` tells the watchdog when a step last came to its end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_LOG = logging.getLogger(__name__)
PAUSE_S = (0.5, 30.0)
JOIN_S = 15.0


class Worker:
    """One thread. `step` blocks for about a second at most, so that stopping is prompt."""

    def __init__(
        self, name: str, step: Callable[[], None], interrupt: Callable[[], None] | None = None
    ) -> None:
        """Starts nothing yet. `interrupt` ends a step's waiting when the thread is to stop."""
        self._interrupt = interrupt
        self.name = name
        self._step = step
        self._stop = threading.Event()
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; `stop` must follow."""
        self._beat = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Let the step under way end, then join."""
        self._stop.set()
        if self._interrupt is not None:
            self._interrupt()
        if not self._thread.is_alive():
            return
        self._thread.join(JOIN_S)
        if self._thread.is_alive():
            _LOG.error("thread %s did not stop within %g s", self.name, JOIN_S)

    def stopping(self) -> bool:
        """For a long step: whether it should come to its end."""
        return self._stop.is_set()

    def healthy(self, within_s: float) -> bool:
        """Whether the thread lives and a step ended, well or not, in the last `within_s`."""
        return self._thread.is_alive() and time.monotonic() - self._beat < within_s

    def _run(self) -> None:
        pause = PAUSE_S[0]
        while not self._stop.is_set():
            try:
                self._step()
            except Exception:  # noqa: BLE001 - the thread's boundary: logged, then tried again
                _LOG.exception("%s failed; again in %g s", self.name, pause)
                self._stop.wait(pause)
                pause = min(2 * pause, PAUSE_S[1])
            else:
                pause = PAUSE_S[0]
            self._beat = time.monotonic()
