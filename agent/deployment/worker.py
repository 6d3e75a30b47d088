"""A thread that carries out long effects, one after the other.

In order, so that a switch that was overtaken is over before the way back begins. Owned by the
Dispatch, which starts and joins it. A job never raises: it turns its failure into a result.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from agent.deployment.events import Event
from agent.serving.protocol import Probed

MAX_WAITING = 512
"""Far above what 32 families can have under way: each has at most a handful."""


class WorkerResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an effect came to. Stale when `run` is no longer the deployment's."""

    family: str
    run: int
    event: Event | None = None
    probed: Probed | None = None


class Runner(Protocol):
    """Whatever carries jobs out in the order in which they came."""

    def submit(self, job: Callable[[], None]) -> None:
        """Take a job; returns at once."""

    def stop(self) -> None:
        """Finish the running job, drop the rest."""


class Worker:
    """A thread with a queue."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Take a job; raises `queue.Full` only when something is badly wrong."""
        self._jobs.put_nowait(job)

    def stop(self) -> None:
        """Wait for the running job and end the thread; what waits is done at the next boot."""
        self._stopping.set()
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._stopping.is_set():
                return
            job()
