"""TUF metadata over MQTT: the index, and one retained topic a file.

Verifies nothing: python-tuf does, and the index is only a hint. Blocks the worker thread that calls
it. `MetadataSource` in agent.ports says what callers may rely on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agent.errors import Malformed, NotListed, TransportFailed
from agent.link.collector import Collector, Collectors
from agent.link.connection import Connection
from contract.codec import decode
from contract.errors import ContractError, InvalidTopic
from contract.messages import TufIndex
from contract.topics import tuf_index_topic, tuf_topic

_ASKS = 2
_LOOK_S = 0.2


class MqttMetadataSource:
    """A `MetadataSource` over the broker's retained messages; may be shared by threads."""

    def __init__(
        self,
        connection: Connection,
        collectors: Collectors,
        ask_s: float = 10.0,
        reconnect_s: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._collectors = collectors
        self._ask_s = ask_s
        self._reconnect_s = reconnect_s
        self._monotonic = monotonic
        self._listed: TufIndex | None = None
        self._closing = threading.Event()

    def close(self) -> None:
        """Let whoever waits here fail at once: the agent stops."""
        self._closing.set()

    def index(self) -> TufIndex:
        """See `agent.ports.MetadataSource.index`."""
        payload = self._read(tuf_index_topic(), "the list of signed metadata")
        try:
            self._listed = decode(TufIndex, payload)
        except ContractError as error:
            raise Malformed(f"the list of signed metadata: {error}") from error
        return self._listed

    def file(self, name: str, max_length: int) -> bytes:
        """See `agent.ports.MetadataSource.file`."""
        listed = self._listed or self.index()
        if name not in listed.files:
            raise NotListed(f"{name} is not in the broker's list of signed metadata")
        try:
            topic = tuf_topic(name)
        except InvalidTopic as error:
            raise NotListed(str(error)) from error
        payload = self._read(topic, name)
        if len(payload) > max_length:
            raise Malformed(f"{name} has {len(payload)} bytes; at most {max_length}")
        return payload

    def _read(self, topic: str, what: str) -> bytes:
        collector = self._collectors.open()
        try:
            for _ in range(_ASKS):
                self._await_connection(what)
                collector.expect([topic])
                self._connection.subscribe([topic])
                payload = self._await_message(collector)
                # An empty payload is a message that the hub cleared: not held.
                if payload:
                    return payload
        finally:
            self._collectors.close(collector)
            self._connection.unsubscribe([topic])
        raise TransportFailed(f"the broker did not send {what} within {_ASKS * self._ask_s:.0f} s")

    def _await_message(self, collector: Collector) -> bytes | None:
        deadline = self._monotonic() + self._ask_s
        while self._monotonic() < deadline and not self._closing.is_set():
            taken = collector.take(_LOOK_S)
            if taken is not None:
                return taken[1]
        return None

    def _await_connection(self, what: str) -> None:
        deadline = self._monotonic() + self._reconnect_s
        while not self._connection.wait_connected(_LOOK_S):
            if self._monotonic() >= deadline or self._closing.is_set():
                raise TransportFailed(
                    f"no connection to the broker for {self._reconnect_s:.0f} s, so no {what}:"
                    f" {self._connection.last_error}"
                )
