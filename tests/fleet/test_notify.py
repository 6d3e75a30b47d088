"""sd_notify: one datagram to systemd, and nothing at all without it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fleet.notify import notify
from fleet.settings import read_settings


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"@outrider-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(5)

        notify(name, "READY=1")

        assert manager.recv(100) == b"READY=1"


def test_nobody_there_is_no_error(tmp_path: Path) -> None:
    notify("", "READY=1")
    notify(str(tmp_path / "absent"), "READY=1")


@pytest.mark.parametrize(
    ("usec", "seconds"), [("30000000", 30.0), ("", 0.0), ("soon", 0.0), ("-5", 0.0)]
)
def test_the_watchdogs_time_is_read_once_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, usec: str, seconds: float
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")

    settings = read_settings()

    assert (settings.watchdog_s, settings.notify_socket) == (seconds, "/run/notify")
