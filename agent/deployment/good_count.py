"""How many good inferences the serving release has given, over all lives of the server.

The server counts from zero in each life; the journal keeps the sum, and what of it fell into the
life that was seen last, which goes on when only this process starts anew. Saved rarely, to spare
the disk: after a power cut the count may be a little low, never too high.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from agent.errors import DiskFull
from agent.journal import GoodInferences, Journal
from agent.serving.protocol import ServerCounters

log = logging.getLogger(__name__)

SAVE_EVERY_MS = 10 * 60 * 1000


@dataclass
class _Count:
    digest: str
    boot: str
    before: int
    now: int = 0
    saved: int = 0
    saved_at_ms: int = 0

    @property
    def total(self) -> int:
        return self.before + self.now


class GoodCount:
    """Owned by the main loop."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._counts: dict[str, _Count] = {}

    def see(self, counters: ServerCounters, now_ms: int) -> None:
        """Take in the server's counts; `now_ms` is monotonic."""
        for family, seen in counters.families.items():
            count = self._counts.get(family)
            if count is None or count.digest != seen.digest:
                count = self._counts[family] = self._known(family, seen.digest, now_ms)
            if count.boot != counters.boot or seen.good < count.now:
                count.before, count.boot = count.total, counters.boot
            count.now = seen.good
            if now_ms - count.saved_at_ms >= SAVE_EVERY_MS:
                self.save(family, now_ms)

    def total(self, family: str, digest: str) -> int:
        """Good inferences of `digest`; 0 when something else serves."""
        count = self._counts.get(family)
        return count.total if count is not None and count.digest == digest else 0

    def save(self, family: str, now_ms: int) -> None:
        """Write the sum down, when it has grown."""
        count = self._counts.get(family)
        if count is None:
            return
        count.saved_at_ms = now_ms
        if count.total == count.saved:
            return
        good = GoodInferences(count.total, count.boot, count.now)
        try:
            self._journal.save_good_inferences(family, count.digest, good)
        except DiskFull as error:
            log.warning("%s: the count of good inferences waits: %s", family, error)
            return
        count.saved = count.total

    def _known(self, family: str, digest: str, now_ms: int) -> _Count:
        known = self._journal.good_inferences(family, digest)
        return _Count(
            digest=digest,
            boot=known.boot,
            before=known.total - known.in_boot,
            now=known.in_boot,
            saved=known.total,
            saved_at_ms=now_ms,
        )
