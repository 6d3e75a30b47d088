"""A device's link to a broker, and a publisher that plays the hub. No fixtures here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.link.backoff import Backoff
from agent.link.blobs import MqttBlobSource
from agent.link.collector import Collectors
from agent.link.connection import Connection, Endpoint, Publication
from agent.link.fetch_plan import Patience
from agent.link.inbox import Inbox
from agent.link.metadata import MqttMetadataSource
from agent.link.rejects import Rejects
from agent.link.router import Router
from contract.codec import encode
from contract.messages import Death
from contract.topics import Channel, device_topic
from tests.mosquitto import Credentials, Mosquitto

DEVICE = "pi-1"
FAST = Backoff(first_s=0.05, most_s=0.2)
SHORT = Patience(ask_s=0.4, cold_ask_s=0.2, want_again_s=1.0, want_limit_s=3.0, reconnect_s=10.0)


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Fail unless the condition comes true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


class Hub:
    """Another client of the broker: publishes as the hub does, and hears everything."""

    def __init__(self, broker: Mosquitto, credentials: Credentials) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.answers: dict[str, Callable[[bytes], None]] = {}
        self._client = Client(
            CallbackAPIVersion.VERSION2, "hub", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.tls_set_context(credentials.context())
        self._client.reconnect_delay_set(1, 1)
        self._ready = threading.Event()
        self._client.on_message = self._hear
        self._client.on_connect = lambda client, *_: client.subscribe("outrider/v1/dev/+/up/#", 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.connect("localhost", broker.port)
        self._client.loop_start()
        assert self._ready.wait(10)

    def retain(self, topic: str, payload: bytes) -> None:
        """Publish retained, and wait until the broker has it."""
        self._client.publish(topic, payload, qos=1, retain=True).wait_for_publish(10)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish once, and wait until the broker has it."""
        self._client.publish(topic, payload, qos=1).wait_for_publish(10)

    def answer(self, topic: str, do: Callable[[bytes], None]) -> None:
        """Do this, on the network thread, whenever a message comes on the topic."""
        self.answers[topic] = do

    def post(self, topic: str, payload: bytes) -> None:
        """Publish retained without waiting: for answers."""
        self._client.publish(topic, payload, qos=1, retain=True)

    def on(self, topic: str) -> list[bytes]:
        """What was heard on the topic."""
        return [payload for where, payload in self.heard if where == topic]

    @property
    def connected(self) -> bool:
        """Whether the broker has us, perhaps again."""
        return self._client.is_connected()

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.heard.append((message.topic, bytes(message.payload)))
        answer = self.answers.get(message.topic)
        if answer is not None:
            answer(bytes(message.payload))


class Link:
    """The device's link, assembled as the control process does it."""

    def __init__(
        self,
        broker: Mosquitto,
        credentials: Credentials,
        device: str = DEVICE,
        port: int = 0,
        keepalive_s: int = 25,
    ) -> None:
        """`port`: where the way to the broker begins, when that is elsewhere."""
        self.inbox = Inbox()
        self.collectors = Collectors()
        self.rejects = Rejects()
        router = Router(device, self.inbox, self.collectors, self.rejects)
        death = encode(Death(device=device, session="0" * 32))
        self.will = Publication(device_topic(device, Channel.PRESENCE), death, retain=True)
        endpoint = Endpoint(
            "localhost",
            port or broker.port,
            device,
            credentials.context,
            self.will,
            keepalive_s,
            backoff=FAST,
        )
        self.connection = Connection(endpoint, router.route, self.inbox.wake)
        self.blobs = MqttBlobSource(self.connection, self.collectors, device, SHORT)
        self.metadata = MqttMetadataSource(
            self.connection, self.collectors, ask_s=0.3, reconnect_s=5.0
        )

    def up(self) -> Link:
        """Connect."""
        self.connection.start()
        assert self.connection.wait_connected(10), self.connection.last_error
        return self

    def listen(self, topics: list[str], hub: Hub) -> None:
        """Subscribe, and wait until messages come through."""
        command = device_topic(DEVICE, Channel.COMMAND)
        assert self.connection.subscribe(topics)
        marker = 0
        while not self.inbox.take(0.1):
            hub.send(command, b"marker %d" % marker)
            marker += 1
            assert marker < 100
        hub.send(command, b"end of markers")
        eventually(lambda: any(m.payload == b"end of markers" for m in self.inbox.take(0.1)))
