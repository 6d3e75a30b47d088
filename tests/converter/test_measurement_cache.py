"""The first record stands, for every process; what is damaged or foreign is not believed."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from pathlib import Path

import pytest

from converter import measurement_cache
from converter.measurement import (
    MalformedMeasurement,
    Measurement,
    encode_measurement,
    key_of,
)
from converter.measurement_cache import MAX_RECORD_BYTES, find, keep
from tests.agent.disks import SmallDisk
from tests.converter.page.reports import measurement

FIRST = measurement()
SECOND = measurement(p50_ms=0.07)


def looked_up(directory: Path, wanted: Measurement = FIRST) -> Measurement | None:
    return find(directory, wanted.subject, wanted.host)


def record(directory: Path, wanted: Measurement = FIRST) -> Path:
    return directory / f"{key_of(wanted.subject, wanted.host)}.json"


def test_nothing_is_kept_at_first(tmp_path: Path) -> None:
    assert looked_up(tmp_path / "none") is None
    assert looked_up(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_what_was_kept_is_found_and_belongs_to_this_account_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "measurements"
    assert keep(folder, FIRST, anew=False) == FIRST
    assert looked_up(folder) == FIRST
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(record(folder).stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == [record(folder).name, "lock"]


def test_the_first_writer_wins(tmp_path: Path) -> None:
    keep(tmp_path, FIRST, anew=False)
    assert keep(tmp_path, SECOND, anew=False) == FIRST
    assert looked_up(tmp_path) == FIRST


def test_who_asks_for_a_new_one_gets_it_for_everybody(tmp_path: Path) -> None:
    keep(tmp_path, FIRST, anew=False)
    assert keep(tmp_path, SECOND, anew=True) == SECOND
    assert looked_up(tmp_path) == SECOND


def test_all_who_write_at_once_end_with_the_same(tmp_path: Path) -> None:
    start, kept = threading.Barrier(8), []

    def write(place: int) -> None:
        start.wait(10)
        kept.append(keep(tmp_path, measurement(p50_ms=1.0 + place), anew=False))

    threads = [threading.Thread(target=write, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(kept) == 8
    assert set(map(encode_measurement, kept)) == {record(tmp_path).read_bytes()}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        encode_measurement(FIRST)[:-40],
        b" " * (MAX_RECORD_BYTES + 1),
        encode_measurement(FIRST) + b" " * MAX_RECORD_BYTES,
        encode_measurement(measurement(host="another")),
        encode_measurement(measurement("litert 2.1.6")),
        encode_measurement(FIRST).replace(b'"schema": 1', b'"schema": 9'),
    ],
)
def test_a_broken_oversized_or_wrong_record_is_refused_and_replaced(
    tmp_path: Path, content: bytes
) -> None:
    record(tmp_path).write_bytes(content)
    with pytest.raises(MalformedMeasurement):
        looked_up(tmp_path)
    assert keep(tmp_path, SECOND, anew=False) == SECOND
    assert looked_up(tmp_path) == SECOND


def test_links_and_pipes_are_not_followed_nor_waited_for(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(encode_measurement(FIRST))
    record(tmp_path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        looked_up(tmp_path)
    record(tmp_path).unlink()
    os.mkfifo(record(tmp_path))
    with pytest.raises(MalformedMeasurement, match="not a file"):
        looked_up(tmp_path)
    assert keep(tmp_path, SECOND, anew=False) == SECOND
    assert looked_up(tmp_path) == SECOND


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_that_others_may_write_to_is_not_believed(tmp_path: Path, mode: int) -> None:
    keep(tmp_path, FIRST, anew=False)
    tmp_path.chmod(mode)
    with pytest.raises(PermissionError, match="others may write"):
        looked_up(tmp_path)
    with pytest.raises(PermissionError, match="others may write"):
        keep(tmp_path, SECOND, anew=True)
    tmp_path.chmod(0o755)
    assert looked_up(tmp_path) == FIRST


def test_a_file_in_the_directorys_place_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"Not a directory|exists"):
        keep(tmp_path / "file", FIRST, anew=False)
    with pytest.raises(OSError, match=r"Not a directory|exists"):
        keep(tmp_path / "file" / "deeper", FIRST, anew=False)
    with pytest.raises(NotADirectoryError):
        looked_up(tmp_path / "file")


def test_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement_cache, "MAX_RECORDS", 3)
    made = [measurement(f"onnxruntime 1.{place}") for place in range(5)]
    for place, each in enumerate(made):
        keep(tmp_path, each, anew=False)
        os.utime(record(tmp_path, each), (place, place))
    kept = [each for each in made if looked_up(tmp_path, each) is not None]
    assert kept == made[2:]


def test_leftovers_of_a_killed_process_are_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".half.tmp").write_bytes(b"{")
    keep(tmp_path, FIRST, anew=False)
    assert not (tmp_path / ".half.tmp").exists()


def test_an_interrupt_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keep(tmp_path, FIRST, anew=False)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    monkeypatch.undo()
    assert keep(tmp_path, SECOND, anew=False) == SECOND


def test_who_holds_the_lock_for_ever_stops_nobody_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement_cache, "LOCK_WAIT_S", 0.1)
    with (tmp_path / "lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="another process"):
            keep(tmp_path, FIRST, anew=False)
    assert keep(tmp_path, FIRST, anew=False) == FIRST


def test_a_full_disk_is_an_error_and_leaves_what_was_kept(small_disk: SmallDisk) -> None:
    folder = small_disk.directory / "measurements"
    keep(folder, FIRST, anew=False)
    small_disk.fill()
    with pytest.raises(OSError, match="No space"):
        keep(folder, SECOND, anew=True)
    assert looked_up(folder) == FIRST
    assert sorted(path.name for path in folder.iterdir()) == [record(folder).name, "lock"]
