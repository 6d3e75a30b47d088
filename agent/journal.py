"""The device's memory across power cuts: one SQLite file, synced in full on every commit.

Holds opaque rows for the deployments (agent.deployment encodes them), what the trust guard must
never forget, and the releases that were once verified. Additive migrations only; a journal written
by a newer agent is refused (`JournalIsNewer`), and the device then serves and does not update.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from agent.store.durable import disk_error

JOURNAL_SCHEMA = 2
BUSY_TIMEOUT_S = 10.0

_MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE deployments (family TEXT PRIMARY KEY, state BLOB NOT NULL);
    CREATE TABLE drafts (id INTEGER PRIMARY KEY AUTOINCREMENT, draft BLOB NOT NULL);
    CREATE TABLE numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
    CREATE TABLE trust_versions (file TEXT PRIMARY KEY, version INTEGER NOT NULL);
    CREATE TABLE floors (family TEXT PRIMARY KEY, min_counter INTEGER NOT NULL);
    CREATE TABLE releases (
        digest TEXT PRIMARY KEY, target TEXT NOT NULL, length INTEGER NOT NULL,
        counter INTEGER NOT NULL
    );
    CREATE TABLE served (
        family TEXT NOT NULL, digest TEXT NOT NULL, good INTEGER NOT NULL,
        PRIMARY KEY (family, digest)
    );
    """,
    """
    ALTER TABLE served ADD COLUMN boot TEXT NOT NULL DEFAULT '';
    ALTER TABLE served ADD COLUMN good_in_boot INTEGER NOT NULL DEFAULT 0;
    """,
)
"""The n-th script brings a journal from schema n to n + 1."""


class JournalUnusable(Exception):
    """Serve what serving.json names, and do not update."""


class JournalIsNewer(JournalUnusable):
    """A newer agent wrote this journal."""


class JournalBroken(JournalUnusable):
    """The file is no SQLite database, or a damaged one. Never replaced by an empty one: it holds
    the floors that keep old releases out."""


class JournalUnreachable(JournalUnusable):
    """It cannot be opened as things are (no room, locked, no access); that may pass."""


class VerifiedRelease(NamedTuple):
    """A release whose manifest this device once found genuine."""

    digest: str
    target: str
    length: int
    counter: int


class GoodInferences(NamedTuple):
    """How many good inferences a release gave, and how many of them in which life of the server:
    that life may outlast the process that counts."""

    total: int = 0
    boot: str = ""
    in_boot: int = 0


class Journal:
    """One connection, shared by the main loop and the worker under a lock."""

    def __init__(self, path: Path) -> None:
        """Open or create the journal at `path`; raises a `JournalUnusable`."""
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            raise JournalUnreachable(f"{path}: {error}") from error
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._migrate(path)
            self._check()
        except sqlite3.OperationalError as error:
            self._db.close()
            raise JournalUnreachable(f"{path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise JournalBroken(f"{path}: {error}") from error
        except JournalUnusable:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with self._lock:
            self._db.close()

    # --- deployments

    def deployments(self) -> dict[str, bytes]:
        """Family -> encoded state."""
        rows = self._all("SELECT family, state FROM deployments ORDER BY family")
        return {str(family): bytes(state) for family, state in rows}

    def save_deployment(self, family: str, state: bytes, drafts: Sequence[bytes]) -> None:
        """One step and what it has to tell, in one transaction; durable when it returns."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO deployments VALUES (?, ?)"
                " ON CONFLICT (family) DO UPDATE SET state = excluded.state",
                (family, state),
            )
            db.executemany("INSERT INTO drafts (draft) VALUES (?)", [(d,) for d in drafts])

    def forget_deployment(self, family: str) -> None:
        """Make room; what it has to tell stays."""
        with self._transaction() as db:
            db.execute("DELETE FROM deployments WHERE family = ?", (family,))

    def drafts(self, limit: int = 256) -> list[tuple[int, bytes]]:
        """What the outbox does not have yet, oldest first."""
        rows = self._all("SELECT id, draft FROM drafts ORDER BY id LIMIT ?", (limit,))
        return [(int(number), bytes(draft)) for number, draft in rows]

    def forget_drafts(self, numbers: Sequence[int]) -> None:
        """The outbox has these."""
        with self._transaction() as db:
            db.executemany("DELETE FROM drafts WHERE id = ?", [(n,) for n in numbers])

    def assignment_seq(self) -> int:
        """The seq of the newest assignment that was taken up; 0 at first."""
        return self._number("assignment_seq")

    def save_assignment_seq(self, seq: int) -> None:
        """Raise it; a lower one changes nothing."""
        with self._transaction() as db:
            _raise_number(db, "assignment_seq", seq)

    def good_inferences(self, family: str, digest: str) -> GoodInferences:
        """As last saved, over all lives of the server."""
        rows = self._all(
            "SELECT good, boot, good_in_boot FROM served WHERE family = ? AND digest = ?",
            (family, digest),
        )
        return GoodInferences(*rows[0]) if rows else GoodInferences()

    def save_good_inferences(self, family: str, digest: str, good: GoodInferences) -> None:
        """Only of the release that serves now: the family's other rows go."""
        with self._transaction() as db:
            db.execute("DELETE FROM served WHERE family = ?", (family,))
            db.execute("INSERT INTO served VALUES (?, ?, ?, ?, ?)", (family, digest, *good))

    # --- trust (agent.ports.TrustJournal)

    def trust_floor_ms(self) -> int:
        """The latest time that signed metadata has proven; 0 at first."""
        return self._number("trust_floor_ms")

    def trust_versions(self) -> dict[str, int]:
        """The highest version accepted of each metadata file."""
        return {str(f): int(v) for f, v in self._all("SELECT file, version FROM trust_versions")}

    def min_counter(self, family: str) -> int:
        """The highest `min_counter` ever seen for a family; 0 at first."""
        rows = self._all("SELECT min_counter FROM floors WHERE family = ?", (family,))
        return int(rows[0][0]) if rows else 0

    def save_trust(
        self, floor_ms: int, versions: Mapping[str, int], counters: Mapping[str, int]
    ) -> None:
        """Store what the guard has accepted. The caller decides about the floor and the versions
        (both may fall when the root changed the online keys); a counter never falls here."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO numbers VALUES ('trust_floor_ms', ?)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (floor_ms,),
            )
            db.executemany(
                "INSERT INTO trust_versions VALUES (?, ?)"
                " ON CONFLICT (file) DO UPDATE SET version = excluded.version",
                list(versions.items()),
            )
            db.executemany(
                "INSERT INTO floors VALUES (?, ?) ON CONFLICT (family)"
                " DO UPDATE SET min_counter = max(min_counter, excluded.min_counter)",
                list(counters.items()),
            )

    def verified_release(self, digest: str) -> VerifiedRelease | None:
        """What TUF once vouched for under this digest: enough to go back to it offline."""
        rows = self._all(
            "SELECT digest, target, length, counter FROM releases WHERE digest = ?", (digest,)
        )
        return VerifiedRelease(*rows[0]) if rows else None

    def save_verified_release(self, release: VerifiedRelease) -> None:
        """Remember a release that passed every check of trust."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO releases VALUES (?, ?, ?, ?)", release)

    # --- the file

    def _number(self, name: str) -> int:
        rows = self._all("SELECT value FROM numbers WHERE name = ?", (name,))
        return int(rows[0][0]) if rows else 0

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, tuple(values)).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:  # SQLite has rolled back by itself when it is full
                    self._db.execute("ROLLBACK")
                known = disk_error(error, "the journal")
                if known is not None:
                    raise known from error
                raise

    def _check(self) -> None:
        """Damage is found now, not in the middle of an update."""
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict))

    def _migrate(self, path: Path) -> None:
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if found > JOURNAL_SCHEMA:
            raise JournalIsNewer(f"{path} has schema {found}; this agent knows {JOURNAL_SCHEMA}")
        for version in range(found, JOURNAL_SCHEMA):
            self._db.executescript(
                f"BEGIN; {_MIGRATIONS[version]} PRAGMA user_version = {version + 1}; COMMIT;"
            )


def _raise_number(db: sqlite3.Connection, name: str, value: int) -> None:
    db.execute(
        "INSERT INTO numbers VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        (name, value),
    )
