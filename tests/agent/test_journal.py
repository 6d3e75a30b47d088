"""The journal: what it keeps, what it never lets fall, and which files it refuses."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import DiskFull
from agent.journal import (
    _MIGRATIONS,
    GoodInferences,
    Journal,
    JournalBroken,
    JournalIsNewer,
    JournalUnreachable,
    VerifiedRelease,
)

DIGEST = "d" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def test_everything_is_there_after_it_was_opened_again(path: Path) -> None:
    journal = Journal(path)
    journal.save_deployment("digits", b"state", [b"one", b"two"])
    journal.save_assignment_seq(7)
    journal.save_trust(123, {"root": 2, "timestamp": 9}, {"digits": 3})
    journal.save_verified_release(VerifiedRelease(DIGEST, "digits/1", 100, 4))
    journal.save_good_inferences("digits", DIGEST, GoodInferences(55, "b", 5))
    journal.close()
    again = Journal(path)
    assert again.deployments() == {"digits": b"state"}
    assert [draft for _, draft in again.drafts()] == [b"one", b"two"]
    assert again.assignment_seq() == 7
    assert again.trust_floor_ms() == 123
    assert again.trust_versions() == {"root": 2, "timestamp": 9}
    assert again.min_counter("digits") == 3
    assert again.verified_release(DIGEST) == VerifiedRelease(DIGEST, "digits/1", 100, 4)
    assert again.good_inferences("digits", DIGEST) == GoodInferences(55, "b", 5)


def test_a_new_journal_knows_nothing(path: Path) -> None:
    journal = Journal(path)
    assert journal.deployments() == {}
    assert journal.drafts() == []
    assert journal.assignment_seq() == 0
    assert journal.trust_floor_ms() == 0
    assert journal.min_counter("digits") == 0
    assert journal.verified_release(DIGEST) is None
    assert journal.good_inferences("digits", DIGEST) == GoodInferences()


def test_every_commit_is_synced_in_full(path: Path) -> None:
    journal = Journal(path)
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_drafts_leave_only_by_their_number(path: Path) -> None:
    journal = Journal(path)
    journal.save_deployment("digits", b"1", [b"a", b"b"])
    (first, _), _ = journal.drafts()
    journal.forget_drafts([first])
    assert [draft for _, draft in journal.drafts()] == [b"b"]
    journal.save_deployment("digits", b"2", [b"c"])
    assert [draft for _, draft in journal.drafts()] == [b"b", b"c"]
    assert [draft for _, draft in journal.drafts(limit=1)] == [b"b"]


def test_a_state_and_its_drafts_are_one_transaction(path: Path) -> None:
    journal = Journal(path)
    journal.save_deployment("digits", b"before", [])
    journal._db.execute("DROP TABLE drafts")
    with pytest.raises(sqlite3.OperationalError):
        journal.save_deployment("digits", b"after", [b"draft"])
    assert journal.deployments() == {"digits": b"before"}


def test_counters_and_the_assignment_never_fall(path: Path) -> None:
    journal = Journal(path)
    journal.save_trust(10, {"timestamp": 5}, {"digits": 5})
    journal.save_trust(9, {"timestamp": 4}, {"digits": 4, "kws": 1})
    assert journal.min_counter("digits") == 5
    assert journal.min_counter("kws") == 1
    assert journal.trust_floor_ms() == 9, "the guard decides: a new root may set the floor back"
    assert journal.trust_versions() == {"timestamp": 4}
    journal.save_assignment_seq(5)
    journal.save_assignment_seq(3)
    assert journal.assignment_seq() == 5


def test_good_inferences_are_kept_of_what_serves_only(path: Path) -> None:
    journal = Journal(path)
    journal.save_good_inferences("digits", DIGEST, GoodInferences(9))
    journal.save_good_inferences("digits", "e" * 64, GoodInferences(1))
    assert journal.good_inferences("digits", DIGEST) == GoodInferences()


def test_a_newer_journal_is_refused_and_left_alone(path: Path) -> None:
    Journal(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(JournalIsNewer, match="schema 99"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_journal_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"not a database, and longer than a header of SQLite is" * 50)
    before = path.read_bytes()
    with pytest.raises(JournalBroken):
        Journal(path)
    assert path.read_bytes() == before


def test_a_damaged_page_is_found_when_the_journal_is_opened(path: Path) -> None:
    journal = Journal(path)
    for number in range(200):
        journal.save_deployment(f"family-{number}", b"x" * 900, [])
    journal.close()
    data = bytearray(path.read_bytes())
    data[20 * 4096 : 22 * 4096] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(JournalBroken):
        Journal(path)


def test_a_journal_that_cannot_be_opened_now_may_be_so_later(path: Path) -> None:
    path.mkdir()
    with pytest.raises(JournalUnreachable):
        Journal(path)
    path.rmdir()
    Journal(path).close()


def test_a_journal_of_the_first_schema_keeps_what_it_knows(path: Path) -> None:
    db = sqlite3.connect(path)
    db.executescript(f"BEGIN; {_MIGRATIONS[0]} PRAGMA user_version = 1; COMMIT;")
    db.execute("INSERT INTO served VALUES ('digits', ?, 55)", (DIGEST,))
    db.commit()
    db.close()
    assert Journal(path).good_inferences("digits", DIGEST) == GoodInferences(55)


def test_a_full_disk_is_told_by_its_name_and_costs_nothing(path: Path) -> None:
    journal = Journal(path)
    journal.save_deployment("digits", b"before", [])
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFull):
        journal.save_deployment("digits", b"x" * 1_000_000, [])
    assert journal.deployments() == {"digits": b"before"}
    journal._db.execute("PRAGMA max_page_count = 1000000")
    journal.save_deployment("digits", b"after", [])
    assert journal.deployments() == {"digits": b"after"}


def test_what_was_saved_survives_a_kill(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from agent.journal import Journal\n"
        "j = Journal(Path(sys.argv[1])); j.save_deployment('digits', b'saved', [b'd'])\n"
        "os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert ended.returncode == -9
    journal = Journal(path)
    assert journal.deployments() == {"digits": b"saved"}
    assert [draft for _, draft in journal.drafts()] == [b"d"]
