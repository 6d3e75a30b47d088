"""The outbox: what it keeps, over kills and power cuts, and what it gives up when it is full."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import DiskFull
from agent.outbox import MAX_CLAIMS, MIN_BYTES, Kind, Outbox

BOOT, OTHER_BOOT = "a" * 32, "b" * 32


def numbered(seq: int) -> bytes:
    return b"message %d" % seq


def big(_seq: int) -> bytes:
    return b"x" * 100_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


def add(outbox: Outbox, kind: Kind = Kind.EVENT, boot: str = BOOT) -> int:
    return outbox.append(boot, kind, "topic", numbered)


def seqs(outbox: Outbox) -> list[int]:
    return [row.seq for row in outbox.oldest(1000)]


def test_the_message_is_built_with_its_own_seq(path: Path) -> None:
    outbox = Outbox(path)
    assert [add(outbox), add(outbox)] == [1, 2]
    assert [row.payload for row in outbox.oldest(9)] == [b"message 1", b"message 2"]


def test_events_go_before_reports_and_each_in_order(path: Path) -> None:
    outbox = Outbox(path)
    for kind in (Kind.REPORT, Kind.EVENT, Kind.REPORT, Kind.EVENT):
        add(outbox, kind)
    assert seqs(outbox) == [2, 4, 1, 3]
    assert [row.seq for row in outbox.oldest(2, without=frozenset({2}))] == [4, 1]


def test_a_row_leaves_only_when_its_boot_and_seq_are_named(path: Path) -> None:
    outbox = Outbox(path)
    for _ in range(3):
        add(outbox)
    assert outbox.acknowledge(OTHER_BOOT, [1, 2, 3]) == []
    assert outbox.acknowledge(BOOT, [2, 77]) == [2]
    assert outbox.acknowledge(BOOT, [2]) == []
    assert seqs(outbox) == [1, 3]


def test_seq_grows_over_restarts_even_when_everything_was_acknowledged(path: Path) -> None:
    outbox = Outbox(path)
    assert outbox.acknowledge(BOOT, [add(outbox)]) == [1]
    outbox.close()
    again = Outbox(path)
    assert add(again, boot=OTHER_BOOT) == 2


def test_a_message_that_cannot_be_built_leaves_no_gap(path: Path) -> None:
    outbox = Outbox(path)

    def broken(_seq: int) -> bytes:
        raise ValueError("no message")

    with pytest.raises(ValueError, match="no message"):
        outbox.append(BOOT, Kind.EVENT, "topic", broken)
    assert add(outbox) == 1
    assert outbox.pending == 1


def test_the_same_key_is_stored_once(path: Path) -> None:
    outbox = Outbox(path)
    first = outbox.append(BOOT, Kind.EVENT, "topic", numbered, key="digits/2 trial 1")
    assert outbox.append(BOOT, Kind.EVENT, "topic", numbered, key="digits/2 trial 1") == first
    assert outbox.pending == 1


def test_oldest_reports_go_first_and_are_counted(path: Path) -> None:
    outbox = Outbox(path, MIN_BYTES)
    outbox.append(BOOT, Kind.EVENT, "topic", big)
    for _ in range(20):
        outbox.append(BOOT, Kind.REPORT, "topic", big)
    assert seqs(outbox) == [1, *range(21 - outbox.pending + 2, 22)]
    assert outbox.dropped == 21 - outbox.pending > 0
    assert outbox.size_bytes <= MIN_BYTES


def test_events_are_given_up_last_and_oldest_first(path: Path) -> None:
    outbox = Outbox(path, MIN_BYTES)
    outbox.append(BOOT, Kind.REPORT, "topic", big)
    for _ in range(12):
        outbox.append(BOOT, Kind.EVENT, "topic", big)
    left = seqs(outbox)
    assert left == list(range(14 - len(left), 14))
    assert outbox.append(BOOT, Kind.REPORT, "topic", big) == 14
    assert 14 not in seqs(outbox), "a report never pushes out an event"


def test_what_was_dropped_and_its_size_are_remembered(path: Path) -> None:
    outbox = Outbox(path, MIN_BYTES)
    for _ in range(20):
        outbox.append(BOOT, Kind.REPORT, "topic", big)
    before = (outbox.dropped, outbox.size_bytes, outbox.pending)
    outbox.close()
    again = Outbox(path, MIN_BYTES)
    assert (again.dropped, again.size_bytes, again.pending) == before


def test_rows_survive_kill_9(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from agent.outbox import Kind, Outbox\n"
        "outbox = Outbox(Path(sys.argv[1]))\n"
        "while True:\n"
        "    seq = outbox.append('a' * 32, Kind.EVENT, 'topic', lambda s: b'message %d' % s)\n"
        "    print(seq, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        promised = [int(writer.stdout.readline()) for _ in range(25)]
        writer.send_signal(signal.SIGKILL)
        promised += [int(line) for line in writer.stdout]
    kept = seqs(Outbox(path))
    assert kept[: len(promised)] == promised, "what append returned for is there"
    assert len(kept) - len(promised) <= 1, "the last one may have been stored and not yet told"


def test_every_commit_is_synchronised_in_full(path: Path) -> None:
    outbox = Outbox(path)
    assert outbox._db.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize(
    "damage", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\7" * 900]
)
def test_a_damaged_file_is_put_aside_and_reporting_goes_on(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    outbox = Outbox(path)
    add(outbox)
    assert outbox.pending == 1
    assert path.with_name("outbox.sqlite.damaged").read_bytes() == damage


def test_a_lost_file_never_reuses_a_boot(path: Path, tmp_path: Path) -> None:
    first, second = Outbox(path), Outbox(tmp_path / "second.sqlite")
    kernel = "c" * 32
    assert first.boot_of(kernel) == first.boot_of(kernel) != second.boot_of(kernel)
    assert first.boot_of(kernel) != first.boot_of("d" * 32)
    assert len(first.boot_of(kernel)) == 32


def test_a_full_disk_is_named_and_loses_nothing(path: Path) -> None:
    outbox = Outbox(path)
    add(outbox)
    (pages,) = outbox._db.execute("PRAGMA page_count").fetchone()
    outbox._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(DiskFull):
        outbox.append(BOOT, Kind.EVENT, "topic", big)
    assert seqs(outbox) == [1]
    outbox._db.execute("PRAGMA max_page_count = 100000")
    assert outbox.append(BOOT, Kind.EVENT, "topic", big) == 2


def test_a_name_is_claimed_once(path: Path) -> None:
    outbox = Outbox(path)
    assert outbox.claim("command 1", until_ms=100)
    assert not outbox.claim("command 1", until_ms=100)
    assert outbox.claim("command 2", until_ms=300)
    assert not outbox.claim("command 1", until_ms=300)


def test_claims_that_are_of_use_the_longest_are_kept(path: Path) -> None:
    outbox = Outbox(path)
    for number in range(MAX_CLAIMS + 2):
        assert outbox.claim(f"command {number}", until_ms=number)
    assert outbox.claim("command 0", until_ms=MAX_CLAIMS * 2)
    assert not outbox.claim("command 3", until_ms=3)
