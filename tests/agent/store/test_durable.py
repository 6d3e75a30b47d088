"""Writes that are whole or have not happened."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent.errors import DiskFull
from agent.store.durable import disk_full_is_named, write_durably


def test_a_file_is_replaced_and_no_temporary_stays(tmp_path: Path) -> None:
    path = tmp_path / "serving.json"
    write_durably(path, b"one")
    write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["serving.json"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_crash_left_behind_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "serving.json.new").write_bytes(b"half a fi")
    write_durably(tmp_path / "serving.json", b"whole")
    assert [p.name for p in tmp_path.iterdir()] == ["serving.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "serving.json"
    write_durably(path, b"old")
    (tmp_path / "serving.json.new").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"serving\.json"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"


def test_quota_counts_as_a_full_disk_and_nothing_else_does() -> None:
    with pytest.raises(DiskFull), disk_full_is_named("x"):
        raise OSError(errno.EDQUOT, "quota")
    with pytest.raises(PermissionError), disk_full_is_named("x"):
        raise PermissionError(errno.EACCES, "no")
