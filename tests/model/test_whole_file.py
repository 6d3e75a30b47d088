"""Files that are whole or as they were, whatever ends their writer."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from model.whole_file import replacing, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_mode_and_nothing_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"data", 0o600)
    assert (tmp_path / "file").read_bytes() == b"data"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    write_whole(tmp_path / "file", b"other", 0o644)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
    assert names(tmp_path) == ["file"]


def test_what_is_private_is_so_before_anything_is_in_it(tmp_path: Path) -> None:
    with replacing(tmp_path / "file", 0o600) as file:
        (partial,) = tmp_path.iterdir()
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
        assert partial.stat().st_size == 0
        file.write(b"data")


class Killed(BaseException):
    """Not an `Exception`: nothing may hold it up."""


@pytest.mark.parametrize("end", [OSError(28, "No space left"), Killed()])
def test_a_writer_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, end: BaseException
) -> None:
    write_whole(tmp_path / "file", b"old", 0o600)

    def half() -> None:
        with replacing(tmp_path / "file", 0o600) as file:
            file.write(b"half of the ne")
            raise end

    with pytest.raises(type(end)):
        half()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_folder_that_is_not_there_is_named_by_the_file(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(path, b"data", 0o600)
    assert caught.value.filename == str(path)


def test_of_two_writers_at_once_the_last_to_end_wins_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path, 0o600) as slow:
        slow.write(b"slow" * 1_000)
        write_whole(path, b"fast", 0o600)
        assert path.read_bytes() == b"fast"
    assert path.read_bytes() == b"slow" * 1_000
