"""What the hub's process learns from its environment: systemd's notification socket, read once."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessSettings:
    """Empty and 0 when no service manager is there."""

    notify_socket: str = ""
    watchdog_s: float = 0.0


def read_settings() -> ProcessSettings:
    """Anything that systemd did not write is taken for absent."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    return ProcessSettings(
        notify_socket=os.environ.get("NOTIFY_SOCKET", ""),
        watchdog_s=int(usec) / 1e6 if usec.isdecimal() else 0.0,
    )
