"""Opens the hub's database and gives out transactions.

SQLite: WAL, FULL synchronous, foreign keys, and one writer at a time inside this process, so that
threads queue on a lock rather than on SQLite's busy handler. Writes begin IMMEDIATE: a transaction
that reads first can never fail half-way because another writer came between.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from fleet.errors import StorageBusy
from fleet.storage.migrate import upgrade

WRITE_WAIT_S = 30.0
_WRITES = "outrider_writes"
"""Execution option that marks a transaction which will write."""


class Storage:
    """The database. `session()` writes and commits at its end; `reading()` only reads."""

    def __init__(self, engine: Engine) -> None:
        """Takes over `engine`; `close()` disposes of it."""
        self.engine = engine
        self._write_lock = threading.Lock()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One writing transaction: committed at the end, rolled back on any error.

        Never open one inside another on the same thread: that is a deadlock, reported as
        `StorageBusy` after `WRITE_WAIT_S`. Objects stay readable after the commit.
        """
        if not self._write_lock.acquire(timeout=WRITE_WAIT_S):
            raise StorageBusy(f"another thread has been writing for {WRITE_WAIT_S:g} s")
        try:
            engine = self.engine.execution_options(**{_WRITES: True})
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        finally:
            self._write_lock.release()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent view; whatever is changed in it is thrown away."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    def fold(self) -> bool:
        """Fold SQLite's log into the file and empty it, so that what was overwritten is gone from
        both. Waits for nobody; False when somebody reads or writes just now."""
        if self.engine.dialect.name != "sqlite":
            return True
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("PRAGMA busy_timeout=0")
            try:
                busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError:  # somebody is at the log: the next time will do
                return False
            finally:
                cursor.execute(f"PRAGMA busy_timeout={int(WRITE_WAIT_S * 1_000)}")
                cursor.close()
            return not busy
        finally:
            connection.close()

    def close(self) -> None:
        """Give the connections back; SQLite then folds its log into the file."""
        self.engine.dispose()


def open_storage(url: str) -> Storage:
    """Open `url` (`sqlite:////path/hub.sqlite`, `postgresql+...`), migrated to today's schema."""
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    # Autocommit at the driver: BEGIN is ours to say, so that it can be IMMEDIATE.
    arguments: dict[str, Any] = (
        {"connect_args": {"timeout": WRITE_WAIT_S, "isolation_level": None}} if is_sqlite else {}
    )
    engine = create_engine(url, **arguments)
    if is_sqlite:
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    upgrade(engine)
    return Storage(engine)


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    cursor = connection.cursor()
    # What is deleted is overwritten, whatever SQLite was built with: a secret must not outlive it.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
