"""The hub's MQTT 5 connection: takes messages in, sends messages out, knows whether it is up.

The network thread only enqueues, into a queue that is bounded: what does not fit is dropped and
counted, since every row of a device's outbox comes again until it is acknowledged. Decides nothing.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from contract.codec import decode
from contract.errors import ContractError
from contract.messages import Epoch
from contract.topics import epoch_topic, every_device
from fleet.ca import HUB_USER
from fleet.inbox import Inbox, Incoming
from fleet.ingest import UP_CHANNELS
from fleet.ports import Clock, LinkStatus

_LOG = logging.getLogger(__name__)
WINDOW = 32
"""Messages that may wait for the broker's PUBACK at once."""
SEND_WAIT_S = 10.0
RECONNECT_S = (1, 15)
KEEPALIVE_S = 30


class LinkDown(Exception):
    """The connection is gone, or the broker does not answer; what was owed is still owed."""


@dataclass(frozen=True)
class LinkSettings:
    """Where the broker is, and the hub's certificate for it."""

    host: str
    port: int
    context: Callable[[], ssl.SSLContext]
    """Made anew for each client: the hub's certificate, and the roots that it believes."""


@dataclass(frozen=True)
class Outgoing:
    """One message to send at QoS 1. An empty retained payload clears its topic."""

    topic: str
    payload: bytes
    retain: bool


class Link:
    """The client `hub`. `generation` counts connections: 0 before the first."""

    def __init__(self, settings: LinkSettings, woken: threading.Event, clock: Clock) -> None:
        """`woken` is set whenever the publisher should look at what is owed."""
        self.incoming = Inbox()
        self.generation = 0
        self.epoch: str | None = None
        """The epoch that the publisher established; read by `status`."""
        self._settings = settings
        self._clock = clock
        self._connected_since_ms = 0
        self._woken = woken
        self._connected = threading.Event()
        self._epoch_seen = threading.Event()
        self._subscribed = threading.Event()
        self._epoch_found: Epoch | None = None
        self._received = 0
        self._dropped = 0
        self._counting = threading.Lock()
        self._client = self._make_client()

    def start(self) -> None:
        """Connect in the background, again and again until `stop`."""
        self._client.connect_async(
            self._settings.host, self._settings.port, keepalive=KEEPALIVE_S, clean_start=True
        )
        self._client.loop_start()

    def stop(self) -> None:
        """Say goodbye and join the network thread."""
        self._client.disconnect()
        self._client.loop_stop()
        self._connected.clear()

    def renew(self) -> None:
        """Connect anew, with the certificate and the roots of now. Not to be called at a stop."""
        self.stop()
        self._client = self._make_client()
        self.start()

    def wake(self) -> None:
        """Something new may be owed to the broker."""
        self._woken.set()

    def status(self) -> LinkStatus:
        """How things stand right now."""
        connected = self._connected.is_set()
        return LinkStatus(
            connected=connected,
            epoch=self.epoch,
            received=self._received,
            queued=self.incoming.qsize(),
            connected_since_ms=self._connected_since_ms if connected else None,
        )

    @property
    def connected(self) -> bool:
        """Whether messages can be sent at this moment."""
        return self._connected.is_set()

    def take_dropped(self) -> int:
        """How many messages found the queue full since the last call."""
        with self._counting:
            dropped, self._dropped = self._dropped, 0
        return dropped

    def retained_epoch(self, wait_s: float) -> Epoch | None:
        """What the broker's memory says of itself on this connection; None when it is empty.

        Waits for the broker's answer to the subscription, then `wait_s` for what it remembers.
        """
        self._subscribed.wait(SEND_WAIT_S)
        self._epoch_seen.wait(wait_s)
        return self._epoch_found

    def send(self, messages: Iterable[Outgoing]) -> None:
        """Send in order, `WINDOW` at a time; returns once the broker has taken every one.

        Raises `LinkDown` as soon as the connection changes. For one caller at a time.
        """
        generation = self.generation
        waiting: deque[MQTTMessageInfo] = deque()
        for message in messages:
            if len(waiting) >= WINDOW:
                self._wait(waiting.popleft(), generation)
            waiting.append(self._publish(message, generation))
        while waiting:
            self._wait(waiting.popleft(), generation)

    def offer(self, message: Outgoing) -> None:
        """Send without waiting, or not at all while the link is down: the peer will ask again."""
        if self._connected.is_set():
            self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)

    def _publish(self, message: Outgoing, generation: int) -> MQTTMessageInfo:
        self._require(generation)
        return self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)

    def _wait(self, info: MQTTMessageInfo, generation: int) -> None:
        deadline = time.monotonic() + SEND_WAIT_S
        while time.monotonic() < deadline:
            self._require(generation)
            try:
                info.wait_for_publish(0.2)
                if info.is_published():
                    return
            except (RuntimeError, ValueError) as error:
                raise LinkDown(f"a message could not be sent: {error}") from error
        raise LinkDown(f"the broker did not take a message within {SEND_WAIT_S:g} s")

    def _require(self, generation: int) -> None:
        if not self._connected.is_set() or self.generation != generation:
            raise LinkDown("the connection to the broker was lost")

    def _make_client(self) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2, client_id=HUB_USER, protocol=MQTTProtocolVersion.MQTTv5
        )
        client.tls_set_context(self._settings.context())
        client.reconnect_delay_set(*RECONNECT_S)
        client.max_inflight_messages_set(2 * WINDOW)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        return client

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _p: Any) -> None:
        if reason.is_failure:
            _LOG.warning("the broker refuses the hub: %s", reason)
            return
        self._subscribed.clear()
        self._epoch_seen.clear()
        self._epoch_found = None
        self.generation += 1
        self._connected_since_ms = self._clock()
        client.subscribe([(epoch_topic(), 1), *((every_device(c), 1) for c in UP_CHANNELS)])
        self._connected.set()
        self._woken.set()
        _LOG.info("connected to the broker (connection %d)", self.generation)

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        _LOG.warning("the broker cannot be reached at port %d", self._settings.port)

    def _on_disconnect(self, _client: Client, _data: Any, _f: Any, reason: Any, _p: Any) -> None:
        self._connected.clear()
        level = logging.WARNING if reason.is_failure else logging.INFO
        _LOG.log(level, "disconnected from the broker: %s", reason)

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, _r: Any, _p: Any) -> None:
        self._subscribed.set()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # an error here would end the network thread
            topic = ""
        if topic == epoch_topic():
            self._take_epoch(message)
            return
        self._received += 1
        if not self.incoming.offer(Incoming(topic, bytes(message.payload), bool(message.retain))):
            with self._counting:
                self._dropped += 1

    def _take_epoch(self, message: MQTTMessage) -> None:
        """Only the retained copy counts: the other is the echo of the hub's own."""
        if not message.retain:
            return
        try:
            self._epoch_found = decode(Epoch, bytes(message.payload))
        except ContractError as error:
            _LOG.warning("the broker's epoch cannot be read: %s", error)
        self._epoch_seen.set()
