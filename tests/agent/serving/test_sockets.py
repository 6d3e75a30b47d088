"""Unix sockets: private, replaced when stale, at paths of any length."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent.serving.sockets import bind_unix, connect_unix


@pytest.mark.parametrize("name", ["s.sock", "deep/" * 30 + "s.sock"])
def test_a_socket_is_private_and_reachable_however_long_its_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with bind_unix(path) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with connect_unix(path, 1.0) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"x")
                assert server.recv(1) == b"x"


def test_what_a_dead_server_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    bind_unix(path).close()
    with pytest.raises(ConnectionRefusedError):
        connect_unix(path, 1.0)
    with bind_unix(path), connect_unix(path, 1.0):
        pass


def test_a_socket_that_is_not_there_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect_unix(tmp_path / "s.sock", 1.0)


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        bind_unix(tmp_path / ("absent/" * 20) / "s.sock")
