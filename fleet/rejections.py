"""Counts messages that were refused, by channel and kind of error, and logs a few of them.

A device that sends nonsense in a loop must neither fill the log nor go unnoticed.
"""

from __future__ import annotations

import logging

from sqlalchemy.orm import Session

from contract.errors import InvalidTopic
from contract.topics import parse_topic
from fleet.storage.schema import Rejected

_LOG = logging.getLogger(__name__)
LOG_EVERY_MS = 10_000
MAX_TOPIC_CHARS = 200


class Rejections:
    """Refusals since the last `flush`. Owned by one thread."""

    def __init__(self) -> None:
        """Nothing refused yet."""
        self._pending: dict[tuple[str, str], Rejected] = {}
        self._logged_at_ms: dict[tuple[str, str], int] = {}

    def add(self, topic: str, error: str, detail: str, now_ms: int, count: int = 1) -> None:
        """One refusal. `error` is the class of what was wrong; logged at most every 10 s each."""
        key = (channel_of(topic), error[:63])
        row = self._pending.get(key)
        total = count + (row.count if row else 0)
        self._pending[key] = Rejected(
            channel=key[0],
            error=key[1],
            count=total,
            last_at_ms=now_ms,
            last_topic=printable(topic),
        )
        # One of the future: the clock was put right since.
        if not 0 <= now_ms - self._logged_at_ms.get(key, -LOG_EVERY_MS) < LOG_EVERY_MS:
            self._logged_at_ms[key] = now_ms
            _LOG.warning("refused a message on %s: %s: %s", printable(topic), error, detail[:300])

    def save(self, session: Session) -> None:
        """Add what is pending to the table, in the caller's transaction."""
        for (channel, error), pending in self._pending.items():
            row = session.get(Rejected, (channel, error))
            if row is None:
                session.add(_copy(pending))
            else:
                row.count += pending.count
                row.last_at_ms, row.last_topic = pending.last_at_ms, pending.last_topic

    def saved(self) -> None:
        """The transaction that `save` took part in is committed."""
        self._pending.clear()

    def __bool__(self) -> bool:
        return bool(self._pending)


def channel_of(topic: str) -> str:
    """The channel as counted: `up/event`, ..., or `unknown`."""
    try:
        return parse_topic(topic).channel.value
    except InvalidTopic:
        return "unknown"


def printable(topic: str) -> str:
    """A stranger's topic, safe to log and to store."""
    return "".join(c if c.isprintable() else "?" for c in topic[:MAX_TOPIC_CHARS])


def _copy(row: Rejected) -> Rejected:
    return Rejected(
        channel=row.channel,
        error=row.error,
        count=row.count,
        last_at_ms=row.last_at_ms,
        last_topic=row.last_topic,
    )
