"""Passphrases come from a file or a terminal, and from nowhere that others could read."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.errors import CommandFailed, PassphraseMissing
from outrider.passphrase import read_passphrase


def test_the_files_first_line_is_the_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_text("correct horse\nignored\n")
    assert read_passphrase(path, "keys") == b"correct horse"


@pytest.mark.parametrize("content", ["", "\n", "\nsecond line", "x" * 2000])
def test_a_file_without_a_usable_first_line_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p"
    path.write_text(content)
    with pytest.raises(CommandFailed, match="first line"):
        read_passphrase(path, "keys")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="absent"):
        read_passphrase(tmp_path / "absent", "keys")


def test_a_new_passphrase_must_not_be_short(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_text("short\n")
    with pytest.raises(CommandFailed, match="at least 8"):
        read_passphrase(path, "keys", confirm=True)
    assert read_passphrase(path, "keys") == b"short"


def test_without_a_terminal_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(PassphraseMissing, match="--passphrase-file"):
            read_passphrase(None, "keys")
