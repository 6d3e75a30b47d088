"""What other threads hand to the main loop, and how it waits for it.

Three lanes, each bounded in its own way. The newest assignment replaces the one before, since only
the newest counts. Commands and acks wait in a bounded queue: when it is full the message is dropped
and counted, which costs a second try (the hub asks again; an unacknowledged row is sent again).
Results of the device's own workers are never dropped: there are as many as tasks under way.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import msgspec

from contract.topics import Channel


class Received(msgspec.Struct, frozen=True):
    """A message for this device, not yet parsed or verified."""

    channel: Channel
    payload: bytes


class Inbox:
    """Many writers, one reader: the main loop."""

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._newest: dict[Channel, Received] = {}
        self._messages: deque[Received] = deque()
        self._results: deque[Any] = deque()
        self._woken = False
        self._dropped = 0

    def replace(self, message: Received) -> None:
        """Keep only the newest message of its channel."""
        with self._changed:
            self._newest[message.channel] = message
            self._changed.notify()

    def offer(self, message: Received) -> bool:
        """Queue a message; False when the queue is full and the message was dropped."""
        with self._changed:
            if len(self._messages) >= self._limit:
                self._dropped += 1
                return False
            self._messages.append(message)
            self._changed.notify()
            return True

    def post(self, result: object) -> None:
        """Queue what one of the device's own threads has finished."""
        with self._changed:
            self._results.append(result)
            self._changed.notify()

    def wake(self) -> None:
        """End the main loop's wait at once, e.g. since the connection changed."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def take(self, timeout_s: float) -> list[Any]:
        """Everything that waits, results first; waits for it up to `timeout_s`."""
        with self._changed:
            self._changed.wait_for(self._has_something, timeout_s)
            taken = [*self._results, *self._newest.values(), *self._messages]
            self._results.clear()
            self._newest.clear()
            self._messages.clear()
            self._woken = False
            return taken

    @property
    def dropped(self) -> int:
        """Messages dropped since the queue was full."""
        with self._changed:
            return self._dropped

    def _has_something(self) -> bool:
        return bool(self._woken or self._results or self._newest or self._messages)
