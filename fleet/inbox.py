"""The queue between the network thread and the ingest thread: bounded in three ways.

By messages and by bytes, so that no flood fills the memory; and by topic, so that one device that
talks without end leaves room for the others. What is refused comes again, or is sent anew.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass

QUEUE_LENGTH = 20_000
QUEUE_BYTES = 128 * 1024 * 1024
TOPIC_LENGTH = 2_000


@dataclass(frozen=True)
class Incoming:
    """One message as the broker delivered it."""

    topic: str
    payload: bytes
    retained: bool
    """Delivered out of the broker's memory: says nothing about the device being there now."""


class Inbox(queue.Queue[Incoming]):
    """Counts what waits. One thread puts, one takes."""

    def __init__(self) -> None:
        """Empty."""
        super().__init__(QUEUE_LENGTH)
        self._bytes = 0
        self._topics: dict[str, int] = {}

    def offer(self, message: Incoming) -> bool:
        """Queue a message, unless a bound is reached; never waits."""
        with self.mutex:
            over = self._bytes + len(message.payload) > QUEUE_BYTES
            if over or self._topics.get(message.topic, 0) >= TOPIC_LENGTH:
                return False
        try:
            self.put_nowait(message)
        except queue.Full:
            return False
        return True

    def _put(self, item: Incoming) -> None:
        """Called by `put` under the queue's lock."""
        super()._put(item)
        self._bytes += len(item.payload)
        self._topics[item.topic] = self._topics.get(item.topic, 0) + 1

    def _get(self) -> Incoming:
        """Called by `get` under the queue's lock."""
        item: Incoming = super()._get()
        self._bytes -= len(item.payload)
        left = self._topics.pop(item.topic) - 1
        if left:
            self._topics[item.topic] = left
        return item
