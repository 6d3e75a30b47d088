"""Retained messages that a worker waits for: from the network thread to that worker.

Bounded by what is asked: each expected topic is delivered once and then no more, so a broker that
repeats itself fills nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable


class Collector:
    """The mailbox of one fetch."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._expected: set[str] = set()
        self._arrived: deque[tuple[str, bytes]] = deque()

    def expect(self, topics: Iterable[str]) -> None:
        """Accept one more message on each of these topics."""
        with self._changed:
            self._expected.update(topics)

    def deliver(self, topic: str, payload: bytes) -> bool:
        """Take a message from the network thread; False when nobody waits for it."""
        with self._changed:
            if topic not in self._expected:
                return False
            self._expected.discard(topic)
            self._arrived.append((topic, payload))
            self._changed.notify()
            return True

    def take(self, timeout_s: float) -> tuple[str, bytes] | None:
        """The next (topic, payload), or None when none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._arrived), timeout_s)
            return self._arrived.popleft() if self._arrived else None

    def take_all(self, timeout_s: float) -> list[tuple[str, bytes]]:
        """Every (topic, payload) that waits; none when none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._arrived), timeout_s)
            taken = list(self._arrived)
            self._arrived.clear()
            return taken


class Collectors:
    """Those that are open right now; at most one for each fetch under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[Collector] = []

    def open(self) -> Collector:
        """A new collector; close it with `close`."""
        collector = Collector()
        with self._lock:
            self._open.append(collector)
        return collector

    def close(self, collector: Collector) -> None:
        """Deliver nothing to it any more."""
        with self._lock:
            self._open.remove(collector)

    def deliver(self, topic: str, payload: bytes) -> bool:
        """Give the message to everyone who waits for it; False when nobody does."""
        with self._lock:
            waiting = list(self._open)
        delivered = [collector.deliver(topic, payload) for collector in waiting]
        return any(delivered)
