"""Tells systemd how the hub is: sd_notify(3), which is one datagram."""

from __future__ import annotations

import socket


def notify(notify_socket: str, state: str) -> None:
    """Send e.g. `READY=1`; does nothing without a service manager, and never fails the hub."""
    if not notify_socket:
        return
    # An abstract socket is written with '@' for the zero byte.
    address = "\0" + notify_socket[1:] if notify_socket.startswith("@") else notify_socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.sendto(state.encode(), address)
    except OSError:
        return
