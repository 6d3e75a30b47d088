"""Messages that were refused: counted by topic and reason, logged once a topic and interval.

Refuses to grow with what a stranger sends: past its bound, topics are counted together.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

_LOG = logging.getLogger(__name__)
_MAX_TOPICS = 64
_MAX_TOPIC_CHARS = 120
OTHERS = "(others)"


class Rejects:
    """Shared by the network thread and the main loop."""

    def __init__(
        self, log_every_s: float = 60.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._log_every_s = log_every_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._logged_at: dict[str, float] = {}

    def count(self, topic: str, why: str) -> None:
        """One more refused message; logs it unless this topic was logged a moment ago."""
        with self._lock:
            key = self._key(topic)
            self._counts[key] += 1
            now = self._monotonic()
            quiet = now - self._logged_at.get(key, -self._log_every_s) < self._log_every_s
            if not quiet:
                self._logged_at[key] = now
            so_far = self._counts[key]
        if not quiet:
            _LOG.warning("refused a message on %s (%d so far): %s", key, so_far, why[:300])

    def counts(self) -> dict[str, int]:
        """Topic -> how many were refused."""
        with self._lock:
            return dict(self._counts)

    def total(self) -> int:
        """How many messages were refused since the start."""
        with self._lock:
            return sum(self._counts.values())

    def _key(self, topic: str) -> str:
        key = ascii(topic)[1:-1][:_MAX_TOPIC_CHARS]
        return key if key in self._counts or len(self._counts) < _MAX_TOPICS else OTHERS
