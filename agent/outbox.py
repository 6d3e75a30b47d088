"""What the hub must learn, kept on disk until the hub says that it has it.

A row leaves only when an ack names its (boot, seq): a PUBACK is not delivery. SQLite with full
synchronisation, so a row survives a power cut once `append` has returned. Bounded by bytes: when
there is no room the oldest report goes first, then the oldest of everything, and what goes is
counted. `seq` grows for ever. Remembers which commands were taken, as their replies lie here too.
Owned by the main loop; knows nothing of connections. A full disk is `DiskFull`.
"""

from __future__ import annotations

import enum
import logging
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from agent.store.durable import disk_error
from contract.ids import digest_of

_LOG = logging.getLogger(__name__)
MIN_BYTES = 1 << 20
DEFAULT_BYTES = 16 << 20
MAX_CLAIMS = 1_000
_BYTES_PER_ROW = 128
"""What a row costs beside its payload, roughly."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    seq INTEGER PRIMARY KEY, boot TEXT NOT NULL, kind INTEGER NOT NULL, key TEXT UNIQUE,
    topic TEXT NOT NULL, payload BLOB NOT NULL, size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS claims (name TEXT PRIMARY KEY, until_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rows_by_kind ON rows (kind, seq);
"""


class Kind(enum.IntEnum):
    """What a row is; the order in which rows are sent."""

    EVENT = 0
    """Deployment transitions and replies: dropped last."""
    REPORT = 1


class Row(msgspec.Struct, frozen=True):
    """One message as it goes out."""

    seq: int
    boot: str
    topic: str
    payload: bytes


class Outbox:
    """One file, one owner."""

    def __init__(self, path: Path, limit_bytes: int = DEFAULT_BYTES) -> None:
        self._limit = max(limit_bytes, MIN_BYTES)
        self._db = _open(path)
        with self._transaction():
            self._fact_default("instance", uuid.uuid4().hex)
            self._fact_default("next_seq", "1")
            self._fact_default("dropped", "0")
        self._size = int(self._one("SELECT COALESCE(SUM(size), 0) FROM rows"))

    def boot_of(self, kernel_boot: str) -> str:
        """The boot id under which this file's rows go out, 32 hex digits.

        It mixes in the file's own identity: were the file ever lost, `seq` would begin anew within
        the same boot of the kernel, and the hub would take new rows for ones that it has.
        """
        return digest_of(f"{kernel_boot} {self._fact('instance')}".encode())[:32]

    def append(
        self,
        boot: str,
        kind: Kind,
        topic: str,
        make: Callable[[int], bytes],
        key: str | None = None,
    ) -> int:
        """Store the message that `make` builds for its seq; returns that seq once it is durable.

        A `key` that waits already is not stored again; its seq is returned.
        """
        with self._transaction():
            known = self._seq_of(key)
            if known is not None:
                return known
            seq = int(self._fact("next_seq"))
            payload = make(seq)
            size = len(payload) + len(topic) + _BYTES_PER_ROW
            self._db.execute(
                "INSERT INTO rows (seq, boot, kind, key, topic, payload, size)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (seq, boot, int(kind), key, topic, payload, size),
            )
            self._set_fact("next_seq", str(seq + 1))
            total = self._make_room(self._size + size)
        self._size = total
        return seq

    def acknowledge(self, boot: str, seqs: Iterable[int]) -> list[int]:
        """Forget these rows of one boot; returns those that were there. Strangers are ignored."""
        gone = []
        with self._transaction():
            for seq in seqs:
                size = self._db.execute(
                    "SELECT size FROM rows WHERE seq = ? AND boot = ?", (seq, boot)
                ).fetchone()
                if size is not None:
                    self._db.execute("DELETE FROM rows WHERE seq = ?", (seq,))
                    gone.append((seq, int(size[0])))
        self._size -= sum(size for _, size in gone)
        return [seq for seq, _ in gone]

    def oldest(self, limit: int, without: frozenset[int] = frozenset()) -> list[Row]:
        """Up to `limit` rows, events before reports, each in order, that are not in `without`."""
        cursor = self._db.execute("SELECT seq FROM rows ORDER BY kind, seq")
        chosen: list[int] = []
        for (seq,) in cursor:
            if len(chosen) >= limit:
                break
            if seq not in without:
                chosen.append(seq)
        return [row for row in map(self.row, chosen) if row is not None]

    def row(self, seq: int) -> Row | None:
        """One row, or None when it has left."""
        found = self._db.execute(
            "SELECT seq, boot, topic, payload FROM rows WHERE seq = ?", (seq,)
        ).fetchone()
        return None if found is None else Row(*found)

    def claim(self, name: str, until_ms: int) -> bool:
        """True the first time that `name` is claimed. Those that are of use the longest are kept,
        whatever the time is: a clock that ran ahead and was put right would bring back the rest."""
        with self._transaction():
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO claims VALUES (?, ?)", (name, until_ms)
            )
            self._db.execute(
                "DELETE FROM claims WHERE name NOT IN"
                " (SELECT name FROM claims ORDER BY until_ms DESC LIMIT ?)",
                (MAX_CLAIMS,),
            )
            return cursor.rowcount == 1

    @property
    def pending(self) -> int:
        """How many rows wait for an ack."""
        return int(self._one("SELECT COUNT(*) FROM rows"))

    @property
    def dropped(self) -> int:
        """How many rows were given up for lack of room, ever."""
        return int(self._fact("dropped"))

    @property
    def size_bytes(self) -> int:
        """What the waiting rows take, as counted against the limit."""
        return self._size

    def close(self) -> None:
        """Nothing is lost by not calling it."""
        self._db.close()

    def _make_room(self, total: int) -> int:
        dropped = 0
        while total > self._limit:
            seq, size = self._db.execute(
                "SELECT seq, size FROM rows ORDER BY kind DESC, seq LIMIT 1"
            ).fetchone()
            self._db.execute("DELETE FROM rows WHERE seq = ?", (seq,))
            total -= int(size)
            dropped += 1
        if dropped:
            self._set_fact("dropped", str(self.dropped + dropped))
            _LOG.warning("the outbox is full: gave up %d of its oldest rows", dropped)
        return total

    def _seq_of(self, key: str | None) -> int | None:
        if key is None:
            return None
        found = self._db.execute("SELECT seq FROM rows WHERE key = ?", (key,)).fetchone()
        return None if found is None else int(found[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # SQLite has rolled back by itself when it is full
                self._db.execute("ROLLBACK")
            known = disk_error(error, "the outbox")
            if known is not None:
                raise known from error
            raise

    def _fact(self, name: str) -> str:
        return str(self._one("SELECT value FROM facts WHERE name = ?", name))

    def _fact_default(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, value))

    def _set_fact(self, name: str, value: str) -> None:
        self._db.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))

    def _one(self, query: str, *values: object) -> int | str:
        found = self._db.execute(query, values).fetchone()[0]
        assert isinstance(found, (int, str))  # noqa: S101 - narrows the type of our own columns
        return found


def _open(path: Path) -> sqlite3.Connection:
    """The database; one that is damaged is put aside, since the device must go on reporting."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise  # not damaged: locked, or the disk is full or read-only
        aside = path.with_name(f"{path.name}.damaged")
        _LOG.error("%s is damaged (%s): put aside as %s, starting anew", path, error, aside.name)
        path.replace(aside)
        for tail in ("-wal", "-shm"):
            path.with_name(path.name + tail).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict))
    except BaseException:
        db.close()
        raise
    return db
