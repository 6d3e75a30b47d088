"""An HTTP response that is here in time or not at all, however its bytes are doled out.

A socket's timeout starts anew with each byte, so a server that sends one now and then, or answers
100 (Continue) for ever, holds its reader for good. Here every read has what is left of one time and
of one number of bytes. Knows nothing of what is read.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from dataclasses import dataclass
from typing import Any


class TooSlow(TimeoutError):
    """The time is over."""


@dataclass
class Allowance:
    """What may still come: set anew for each piece by whoever waits for it."""

    idle_s: float
    """Without a byte."""
    until: float = 0.0
    left: int = 0

    def allow(self, seconds: float, count: int) -> None:
        """From now on."""
        self.until, self.left = time.monotonic() + seconds, count

    def timeout(self) -> float:
        """Of the next read; raises `TooSlow`, or `OSError` when too much has come."""
        seconds = self.until - time.monotonic()
        if seconds <= 0:
            raise TooSlow("it takes too long")
        if self.left < 0:
            raise OSError("more comes than a head may have")
        return min(self.idle_s, seconds)


class TimedResponse(http.client.HTTPResponse):
    """Reads by an allowance; a connection's `response_class`, once that was bound."""

    def __init__(self, allowance: Allowance, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        unbuffered = self.fp.detach()  # nothing was read yet
        self.fp = io.BufferedReader(_Allowed(unbuffered, sock, allowance))


class _Allowed(io.RawIOBase):
    """Holds the socket open as the response does: the connection may be closed before."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, allowance: Allowance) -> None:
        self._raw, self._sock, self._allowance = raw, sock, allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._allowance.timeout())
        try:
            taken: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            self._allowance.timeout()  # it was the last of the time, and not an idle peer
            raise
        self._allowance.left -= taken or 0
        return taken

    def close(self) -> None:
        self._raw.close()
        super().close()
