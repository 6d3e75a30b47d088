"""One turn of a connection's network loop: read all that came, then write all that is to go.

paho's own loop turns once a packet and wakes itself for every acknowledgement; with a window of
retained chunks that costs more than the chunks. This one is paho's documented external event loop
(`loop_read`, `loop_write`, `loop_misc`), behind a reader that takes messages of QoS 0 out first.
Decides nothing about messages or reconnecting.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

from agent.link.stream import PacketReader, PacketSocket

GATHER_S = 0.0005
"""While chunks flow: their records come by the thousand a second, and to wake for each, and take
the interpreter from the worker each time, costs more than to read it."""
FLOWING_BYTES = 8_192
"""Read in one turn by which chunks are known to flow."""
SIGN_S = 1.0
"""How often paho is told that the broker lives."""
_PINGRESP = b"\xd0\x00"
_OK = MQTTErrorCode.MQTT_ERR_SUCCESS


class NetworkLoop:
    """Owned by the network thread, which calls `turn`; any thread's packet ends its wait."""

    def __init__(
        self,
        client: Client,
        longest: int,
        on_message: Callable[[str, bytes], None],
        on_part: Callable[[], None] = lambda: None,
    ) -> None:
        """Takes over the client's reading and writing; to be made before it connects.

        `on_message` gets what came at QoS 0, in packets of at most `longest` bytes. `on_part` is
        called when bytes came and no packet is whole yet.
        """
        self._client = client
        self._incoming = PacketReader(longest)
        self._on_message, self._on_part = on_message, on_part
        self._told = 0.0
        self._thread = threading.get_ident()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._stuck = self._flowing = False
        # With this callback set, paho leaves every write to whoever runs its loop.
        client.on_socket_register_write = self._register_write

    def turn(self, timeout_s: float) -> MQTTErrorCode:
        """Wait up to `timeout_s` for work and do it; anything but success is the session's end."""
        opened = self._client.socket()
        if not isinstance(opened, PacketSocket):
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        try:
            outcome = self._read(opened) if self._wait(opened, timeout_s) else _OK
            if outcome is _OK and self._client.want_write():
                outcome = self._client.loop_write()
                self._stuck = self._client.want_write()
        except (OSError, ValueError):  # closed by another thread, which says why
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        return self._client.loop_misc() if outcome is _OK else outcome

    def close(self) -> None:
        """Release the two sockets."""
        self._reader.close()
        self._writer.close()

    def _wait(self, opened: PacketSocket, timeout_s: float) -> bool:
        """Whether there is something to read."""
        writers = [opened] if self._stuck else []
        if self._flowing and self._idle(opened):
            select.select([self._reader], writers, [], GATHER_S)
        wait_s = timeout_s if self._idle(opened) else 0.0
        ready, _, _ = select.select([opened, self._reader], writers, [], wait_s)
        if self._reader in ready:
            with contextlib.suppress(BlockingIOError):
                self._reader.recv(4096)
        return opened in ready or opened.pending() > 0

    def _idle(self, opened: PacketSocket) -> bool:
        """Whether there is nothing that can be done now.

        What TLS has decrypted already no select tells of.
        """
        return not opened.pending() and (self._stuck or not self._client.want_write())

    def _read(self, opened: PacketSocket) -> MQTTErrorCode:
        """One buffer full; what is more waits until this turn has written."""
        before = self._incoming.received
        for message in self._incoming.read(opened):
            self._on_message(message.topic, message.payload)
        self._flowing = self._incoming.received - before >= FLOWING_BYTES
        if self._incoming.partly:
            self._on_part()
        self._show_life(opened)
        outcome = _OK
        while outcome is _OK and opened.has_more():
            outcome = self._client.loop_read()
        return outcome

    def _show_life(self, opened: PacketSocket) -> None:
        """paho counts what it reads itself. The answer to its ping waits behind the blobs, and on a
        slow link for longer than the keepalive: what comes meanwhile says as much."""
        now = time.monotonic()
        if now - self._told >= SIGN_S and not opened.has_more():
            self._told = now
            opened.pass_on(_PINGRESP)

    def _register_write(self, _client: Client, _data: object, _socket: object) -> None:
        if threading.get_ident() != self._thread:
            # Full means that it is about to wake; closed, that the session is over.
            with contextlib.suppress(OSError):
                self._writer.send(b"\0")
