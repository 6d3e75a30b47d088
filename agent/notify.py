"""systemd's notification protocol (sd_notify(3)): one datagram a message, and no library.

Does nothing when no socket is named, and never fails the agent: a lost watchdog message is
systemd's to judge.
"""

from __future__ import annotations

import contextlib
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


class Notifier:
    """Tells the service manager how the agent is; `address` is $NOTIFY_SOCKET or empty."""

    def __init__(self, address: str) -> None:
        # A leading @ stands for the zero byte of Linux's abstract names.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def tell(self, *lines: str) -> None:
        """E.g. `tell(READY, "STATUS=connected")`."""
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)
