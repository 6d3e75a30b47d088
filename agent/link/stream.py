"""The bytes of a connection: from the TLS socket to messages, and to paho what is left.

A chunk costs its handling, not its bytes: paho takes three reads and a state machine for each
packet. So one large buffer is filled and scanned as a whole (`agent.link.packets`), and paho, which
connects, publishes and keeps alive, reads the other packets through the socket as if they had just
come. Holds at most one packet that is not whole, of at most the length that the device allows.
"""

from __future__ import annotations

import ssl

from agent.link.packets import Message, scan

READ_BYTES = 1 << 18
"""Read before anything is answered; a longer packet gets a buffer of its own length meanwhile."""


class PacketSocket(ssl.SSLSocket):
    """What paho takes for its TLS socket; `SSLContext.sslsocket_class` makes it one."""

    _passed_on: bytearray
    _ended: Exception | None

    def __new__(cls, *_args: object, **_named: object) -> PacketSocket:
        made = super().__new__(cls)
        made._passed_on = bytearray()
        made._ended = None
        return made

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """What was passed on; paho knows the want of more by this error."""
        if self._passed_on:
            taken = bytes(self._passed_on[:buflen])
            del self._passed_on[:buflen]
            return taken
        if self._ended is not None:
            raise self._ended
        raise ssl.SSLWantReadError

    def pass_on(self, packet: bytes) -> None:
        """Have paho read this packet next."""
        self._passed_on += packet

    def end(self, why: Exception) -> None:
        """Have paho find the connection lost, once it has read what was passed on."""
        self._ended = why

    def has_more(self) -> bool:
        """Whether paho has anything to read."""
        return bool(self._passed_on) or self._ended is not None


class PacketReader:
    """Owned by the network thread; one a connection."""

    def __init__(self, longest: int) -> None:
        """`longest`: bytes that a message with its topic may have."""
        self._longest = longest
        self._buffer = bytearray(READ_BYTES)
        self._start = self._stop = 0
        self.received = 0
        """Bytes, since the connection began."""
        self.partly = False
        """Whether the last read made no packet whole: a long one is on its way."""

    def read(self, opened: PacketSocket) -> list[Message]:
        """The messages that came, up to a buffer full; raises `MalformedPacket`."""
        self._fill(opened)
        found = scan(self._buffer, self._start, self._stop, self._longest)
        self.partly = found.end == self._start
        self._start = found.end
        for packet in found.others:
            opened.pass_on(packet)
        self._make_room(found.needed)
        return found.messages

    def _fill(self, opened: PacketSocket) -> None:
        """TLS gives a record of 16 KiB at a time."""
        with memoryview(self._buffer) as room:
            while self._stop < len(room):
                try:
                    taken = opened.recv_into(room[self._stop :], len(room) - self._stop)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    return
                except OSError as error:
                    opened.end(error)
                    return
                if not taken:
                    opened.end(ConnectionResetError("the broker closed the connection"))
                    return
                self._stop += taken
                self.received += taken

    def _make_room(self, needed: int) -> None:
        """The begun packet to the front, where all of it has room."""
        if not self._start and self._stop and needed <= len(self._buffer):
            return
        begun = self._buffer[self._start : self._stop]
        if needed > len(self._buffer) or (not begun and len(self._buffer) > READ_BYTES):
            self._buffer = bytearray(max(needed, READ_BYTES))
        self._buffer[: len(begun)] = begun
        self._start, self._stop = 0, len(begun)
