"""One MQTT 5 connection, kept up for ever by a thread of its own.

Protocol: MQTT 5.0 (OASIS), clean start, session expiry 0, Receive Maximum 8; QoS 1, but for what is
asked for again when it does not come. Each attempt makes a new paho client, so nothing of a lost
session lives on: what must not be lost is in the outbox. Refuses to decide anything about messages.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from paho.mqtt.client import (
    Client,
    ConnectFlags,
    DisconnectFlags,
    MQTTMessage,
)
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.link.backoff import Backoff
from agent.link.loop import NetworkLoop
from agent.link.router import MAX_METADATA_BYTES
from agent.link.stream import PacketSocket

_LOG = logging.getLogger(__name__)
RECEIVE_MAXIMUM = 8
MAX_TOPICS_PER_SUBSCRIBE = 8
_MAX_PACKET_BYTES = MAX_METADATA_BYTES + 4_096
_MAX_UNACKNOWLEDGED = 16
_MAX_QUEUED = 256
_STEADY_S = 30.0
"""A connection that lived this long was a good one: the next failure starts the backoff anew."""
_FAREWELL_S = 3.0


def _send_at_once(_client: Client, _data: object, opened: object) -> None:
    # Nagle's algorithm holds each small packet back for 40 ms: a window of acknowledgements.
    if isinstance(opened, socket.socket):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass(frozen=True)
class Publication:
    """A message to publish at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True)
class Endpoint:
    """Where the broker is and who connects. `context` is made anew for each attempt."""

    host: str
    port: int
    device: str
    context: Callable[[], ssl.SSLContext]
    will: Publication
    keepalive_s: int = 25
    backoff: Backoff = field(default_factory=Backoff)


class Connection:
    """Thread-safe. `on_message` and `on_change` run on the network thread and must not block."""

    def __init__(
        self,
        endpoint: Endpoint,
        on_message: Callable[[str, bytes], None],
        on_change: Callable[[], None] = lambda: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._endpoint = endpoint
        self._on_message = on_message
        self._on_change = on_change
        self._chance = chance
        self._changed = threading.Condition()
        self._client: Client | None = None
        self._generation = 0
        self._parts = 0
        self._last_error = ""
        self._stopping = threading.Event()
        self._abandon = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    @property
    def generation(self) -> int:
        """Grows with every connection made, so that no reconnect can be missed."""
        with self._changed:
            return self._generation

    @property
    def parts(self) -> int:
        """Grows while a packet comes that is not whole yet: on a slow link a blob takes a while."""
        return self._parts

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and has not been lost since."""
        with self._changed:
            return self._client is not None

    @property
    def last_error(self) -> str:
        """Why the last attempt or connection ended; empty while connected."""
        with self._changed:
            return "" if self._client is not None else self._last_error

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def stop(self, farewell: Publication | None = None) -> None:
        """Publish `farewell`, disconnect in order, and join the thread."""
        self._stopping.set()
        client = self._current()
        if client is not None:
            self._say_farewell(client, farewell)
        if self._thread.is_alive():
            self._thread.join(_FAREWELL_S)
            self._abandon.set()
            self._thread.join(_FAREWELL_S)

    def renew(self) -> None:
        """Leave without a word or a will, and connect anew: with another certificate."""
        client = self._current()
        if client is not None:
            client.disconnect()

    def publish(self, publication: Publication) -> bool:
        """Hand a message to the broker; False when there is none or its queue is full.

        True is not delivery: only the hub's ack is.
        """
        client = self._current()
        if client is None:
            return False
        info = client.publish(
            publication.topic, publication.payload, qos=1, retain=publication.retain
        )
        return info.rc is MQTTErrorCode.MQTT_ERR_SUCCESS

    def subscribe(self, topics: Sequence[str], qos: int = 1) -> bool:
        """Ask for these topics and their retained messages, at most 8 a SUBSCRIBE.

        0 for what is asked for again when it does not come: the broker then awaits no answer.
        """
        client = self._current()
        groups = [topics[at : at + MAX_TOPICS_PER_SUBSCRIBE] for at in range(0, len(topics), 8)]
        return client is not None and all(
            client.subscribe([(topic, qos) for topic in group])[0] == MQTTErrorCode.MQTT_ERR_SUCCESS
            for group in groups
        )

    def unsubscribe(self, topics: Sequence[str]) -> bool:
        """Ask for no more of these topics; a lost connection has forgotten them anyway."""
        client = self._current()
        if client is None or not topics:
            return True
        return client.unsubscribe(list(topics))[0] == MQTTErrorCode.MQTT_ERR_SUCCESS

    def wait_connected(self, timeout_s: float) -> bool:
        """Block until there is a connection, up to `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._client is not None, timeout_s)

    def _current(self) -> Client | None:
        with self._changed:
            return self._client

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._one_session()
                self._lost(None)
            except Exception as error:  # noqa: BLE001 - the thread's boundary: paho raises nearly anything for a broken packet, and the link must go on
                self._lost(f"{type(error).__name__}: {error}")
            failures = 1 if time.monotonic() - began > _STEADY_S else failures + 1
            wait_s = self._endpoint.backoff.delay(failures - 1, self._chance())
            self._say_why(failures, wait_s)
            self._stopping.wait(wait_s)

    def _one_session(self) -> None:
        client = self._new_client()
        loop = NetworkLoop(client, _MAX_PACKET_BYTES, self._arrived, self._partly_arrived)
        try:
            self._connect(client)
            while not self._abandon.is_set():
                if loop.turn(1.0) is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                    return
        finally:
            loop.close()
            # Cut, not closed in order: leaving without a farewell must let the will speak.
            still_open = client.socket()
            if still_open is not None:
                still_open.close()

    def _new_client(self) -> Client:
        end = self._endpoint
        client = Client(
            CallbackAPIVersion.VERSION2, end.device, protocol=MQTTProtocolVersion.MQTTv5
        )
        context = end.context()
        context.sslsocket_class = PacketSocket
        client.tls_set_context(context)
        client.will_set(end.will.topic, end.will.payload, qos=1, retain=end.will.retain)
        client.max_inflight_messages_set(_MAX_UNACKNOWLEDGED)
        client.max_queued_messages_set(_MAX_QUEUED)
        client.on_socket_open = _send_at_once
        client.on_connect = self._accepted
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        return client

    def _connect(self, client: Client) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho types the rest
        properties.SessionExpiryInterval = 0
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = _MAX_PACKET_BYTES
        end = self._endpoint
        client.connect(end.host, end.port, end.keepalive_s, clean_start=True, properties=properties)

    def _accepted(
        self,
        client: Client,
        _data: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            with self._changed:
                self._last_error = f"the broker refused us: {reason}"
            return
        with self._changed:
            self._client = client
            self._generation += 1
            self._changed.notify_all()
        self._on_change()

    def _disconnected(
        self,
        _client: Client,
        _data: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._lost(str(reason))

    def _received(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "(not UTF-8)"
        self._arrived(topic, bytes(message.payload))

    def _arrived(self, topic: str, payload: bytes) -> None:
        self._on_message(topic, payload)

    def _partly_arrived(self) -> None:
        self._parts += 1

    def _lost(self, why: str | None) -> None:
        with self._changed:
            was_connected, self._client = self._client is not None, None
            if why is not None:
                self._last_error = why
        if was_connected:
            self._on_change()

    def _say_why(self, failures: int, wait_s: float) -> None:
        if self._stopping.is_set():
            return
        # Only the first of a row is news; a device may be without its broker for weeks.
        level = logging.WARNING if failures == 1 else logging.DEBUG
        end = self._endpoint
        _LOG.log(
            level,
            "no connection to %s:%d (%s); trying again in %.1f s",
            end.host,
            end.port,
            self._last_error,
            wait_s,
        )

    def _say_farewell(self, client: Client, farewell: Publication | None) -> None:
        try:
            if farewell is not None:
                info = client.publish(
                    farewell.topic, farewell.payload, qos=1, retain=farewell.retain
                )
                info.wait_for_publish(_FAREWELL_S)
            client.disconnect()
        except (RuntimeError, ValueError) as error:
            _LOG.info("left without a farewell: %s", error)
