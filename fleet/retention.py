"""Keeps the database from growing without end: the oldest rows go, by age and by count.

A hub runs for years with nobody looking. What devices report ages fast; what happened to them, and
who did what, is kept for two years. Rollouts, their devices and the decisions on them are the
fleet's history and are kept for good. Deletes in small pieces, so that nobody waits for the lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from fleet.ports import Clock
from fleet.storage.database import Storage
from fleet.storage.schema import (
    AuditEntry,
    OutgoingCommand,
    Received,
    StoredEvent,
    StoredReport,
    Table,
)

_LOG = logging.getLogger(__name__)
DAY_MS = 86_400_000
PIECE = 1_000
"""Rows of a table that one transaction deletes at most."""
EVERY_S = 60.0
AGAIN_S = 0.2
"""Between two pieces while there is more to delete."""


@dataclass(frozen=True)
class Keep:
    """How long, and how many, rows of one table are kept. `order` never falls from row to row."""

    table: type[Table]
    order: InstrumentedAttribute[int]
    at_ms: InstrumentedAttribute[int]
    age_ms: int
    rows: int


KEPT = (
    Keep(StoredReport, StoredReport.id, StoredReport.received_at_ms, 30 * DAY_MS, 2_000_000),
    Keep(StoredEvent, StoredEvent.id, StoredEvent.received_at_ms, 730 * DAY_MS, 2_000_000),
    # A row that comes again after this long is known by the event or report that it became.
    Keep(Received, Received.at_ms, Received.at_ms, 60 * DAY_MS, 5_000_000),
    Keep(AuditEntry, AuditEntry.id, AuditEntry.at_ms, 730 * DAY_MS, 1_000_000),
    Keep(
        OutgoingCommand,
        OutgoingCommand.expires_at_ms,
        OutgoingCommand.expires_at_ms,
        30 * DAY_MS,
        100_000,
    ),
)
"""A report is about a kilobyte, so two million of them are a few gigabytes."""


class Retention:
    """The retention thread's step."""

    def __init__(self, storage: Storage, clock: Clock, wait: Callable[[float], object]) -> None:
        """`wait` sleeps for so many seconds, or less when the hub stops."""
        self._storage = storage
        self._clock = clock
        self._wait = wait

    def step(self) -> None:
        """One piece of each table, then a pause: short while there is more to delete. When there is
        none, what was deleted leaves the disk, too."""
        more = [self._prune(keep) for keep in KEPT]
        if any(more):
            self._wait(AGAIN_S)
            return
        # A secret that was spent stands in SQLite's log and file until the one is folded into the
        # other. Whoever is busy just now is not kept waiting: the next round will do.
        self._storage.fold()
        self._wait(EVERY_S)

    def _prune(self, keep: Keep) -> bool:
        """Whether something was deleted. Looks without the write lock: mostly nothing is due."""
        with self._storage.reading() as session:
            edge = due(session, keep, self._clock())
        if edge is None:
            return False
        with self._storage.session() as session:
            session.execute(delete(keep.table).where(keep.order <= edge))
        _LOG.debug("deleted the oldest rows of %s, up to %d", keep.table.__tablename__, edge)
        return True


def due(session: Session, keep: Keep, now_ms: int) -> int | None:
    """Up to where, by `keep.order`, the next piece of the table is to be deleted; None: nowhere.

    The newest row always stays. Otherwise SQLite would give its number to the next one, and who
    reads on from a number would miss what comes; nor does a table grow that nothing is added to.
    """
    newest = session.scalar(select(func.max(keep.order)))
    if newest is None:
        return None
    count = session.scalar(select(func.count()).select_from(keep.table)) or 0
    oldest = select(keep.order, keep.at_ms).order_by(keep.order).limit(PIECE)
    edge: int | None = None
    for index, (order, at_ms) in enumerate(session.execute(oldest)):
        over = index < count - keep.rows
        if order >= newest or not (over or at_ms < now_ms - keep.age_ms):
            break
        edge = order
    return edge
