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
from collections.abc import Callable

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

from agent.link.stream import PacketReader, PacketSocket

_OK = MQTTErrorCode.MQTT_ERR_SUCCESS


class NetworkLoop:
    """Owned by the network thread, which calls `turn`; any thread's packet ends its wait."""

    def __init__(
        self, client: Client, longest: int, on_message: Callable[[str, bytes], None]
    ) -> None:
        """Takes over the client's reading and writing; to be made before it connects.

        `on_message` gets what came at QoS 0, in packets of at most `longest` bytes.
        """
        self._client = client
        self._incoming = PacketReader(longest)
        self._on_message = on_message
        self._thread = threading.get_ident()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._stuck = False
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
        # What TLS has decrypted already, and no select tells of.
        pending = opened.pending() > 0
        idle = not pending and (self._stuck or not self._client.want_write())
        ready, _, _ = select.select([opened, self._reader], writers, [], timeout_s if idle else 0.0)
        if self._reader in ready:
            with contextlib.suppress(BlockingIOError):
                self._reader.recv(4096)
        return pending or opened in ready

    def _read(self, opened: PacketSocket) -> MQTTErrorCode:
        """One buffer full; what is more waits until this turn has written."""
        for message in self._incoming.read(opened):
            self._on_message(message.topic, message.payload)
        outcome = _OK
        while outcome is _OK and opened.has_more():
            outcome = self._client.loop_read()
        return outcome

    def _register_write(self, _client: Client, _data: object, _socket: object) -> None:
        if threading.get_ident() != self._thread:
            # Full means that it is about to wake; closed, that the session is over.
            with contextlib.suppress(OSError):
                self._writer.send(b"\0")
