"""The operator's configuration: private from its first byte, and clear when it is not right."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from outrider.errors import CommandFailed, NotConfigured
from outrider.operator import OperatorConfig, read_operator, write_operator, write_private

CONFIG = OperatorConfig(url="https://hub.example:8443", token="t" * 32, ca_pem="PEM")


def test_it_round_trips_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "outrider" / "operator.json"
    write_operator(path, CONFIG)
    assert read_operator(path) == CONFIG
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_absent_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="outrider hub init"):
        read_operator(tmp_path / "operator.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"url": "http://plain", "token": "tttttttttttttttt", "ca_pem": ""}',
        b'{"url": "https://hub", "token": "short", "ca_pem": ""}',
    ],
)
def test_a_broken_file_is_named_and_its_content_is_not_shown(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "operator.json"
    path.write_bytes(content)
    with pytest.raises(NotConfigured, match=r"operator\.json") as caught:
        read_operator(path)
    assert "tttttttt" not in str(caught.value)


def test_a_folder_in_its_place_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="directory"):
        read_operator(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CommandFailed, match="cannot write"):
        write_private(tmp_path / "secret", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandFailed, match="cannot write"):
        write_private(tmp_path / "file" / "secret", b"x")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "operator.json"
    path.mkdir()
    (path / "kept").write_text("")
    with pytest.raises(CommandFailed):
        write_private(path, b"new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["operator.json"]
