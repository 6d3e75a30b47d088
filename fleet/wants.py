"""How much a device may have repeated for it, and what is said when devices ask for more than that.

A blob goes out once for however many devices ask for it at the same moment, and no device can make
the hub send, or log, without end. Time is passed in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

_LOG = logging.getLogger(__name__)
BURST = 4_096
"""Blobs that a device may have repeated at once: the largest file there can be, and some."""
REFILL_PER_S = 32.0
REPEAT_MS = 3_000
"""A blob that went out this short a time ago is on its way: it does not go out again."""
MAX_REMEMBERED = 16_384
LOG_EVERY_S = 10.0


class WantLimiter:
    """A token bucket a device, and when each blob last went out. Owned by one thread."""

    def __init__(self) -> None:
        """Every device starts with a full bucket."""
        self._buckets: dict[str, tuple[float, int]] = {}
        self._sent_at_ms: dict[str, int] = {}

    def admit(self, device: str, digests: Sequence[str], now_ms: int) -> list[str]:
        """Those of `digests` that are to be sent now; the others are ignored, not queued."""
        fresh = [d for d in dict.fromkeys(digests) if not self._is_recent(d, now_ms)]
        tokens, then = self._buckets.get(device, (float(BURST), now_ms))
        tokens = min(float(BURST), tokens + max(0, now_ms - then) / 1000 * REFILL_PER_S)
        admitted = fresh[: int(tokens)]
        self._buckets[device] = (tokens - len(admitted), now_ms)
        for digest in admitted:
            self._sent_at_ms.pop(digest, None)
            self._sent_at_ms[digest] = now_ms
        self._forget()
        return admitted

    def _is_recent(self, digest: str, now_ms: int) -> bool:
        sent = self._sent_at_ms.get(digest)
        # One of the future: the clock was put right since.
        return sent is not None and 0 <= now_ms - sent < REPEAT_MS

    def _forget(self) -> None:
        """Oldest first: dictionaries keep their order."""
        while len(self._sent_at_ms) > MAX_REMEMBERED:
            del self._sent_at_ms[next(iter(self._sent_at_ms))]
        while len(self._buckets) > MAX_REMEMBERED:
            del self._buckets[next(iter(self._buckets))]


class DroppedWants:
    """Counts what found the queue full, and logs one line for many. Owned by one thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Nothing was dropped yet."""
        self._monotonic = monotonic
        self._said_at: float | None = None
        self.unsaid = 0

    def add(self, device: str) -> None:
        """One more; the first is logged at once, then their number, every `LOG_EVERY_S`."""
        self.unsaid += 1
        now = self._monotonic()
        if self._said_at is not None and now - self._said_at < LOG_EVERY_S:
            return
        _LOG.warning(
            "dropped %d wants, the last of %s: too many at once; devices ask again",
            self.unsaid,
            device,
        )
        self._said_at, self.unsaid = now, 0
