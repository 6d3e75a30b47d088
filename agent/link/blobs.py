"""Blobs over MQTT: subscribe to a retained topic, take the message, unsubscribe.

Owns one fetch at a time for each caller; blocks the worker thread that calls it. What a blob is for
is none of its business. `BlobSource` in agent.ports says what callers may rely on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from agent.errors import TransportFailed
from agent.link.collector import Collector, Collectors
from agent.link.connection import MAX_TOPICS_PER_SUBSCRIBE, Connection, Publication
from agent.link.fetch_plan import FetchPlan, Patience, Step
from agent.link.rate import TokenBucket
from agent.ports import BlobRef
from contract.codec import encode
from contract.errors import DigestMismatch, MalformedBlob
from contract.messages import Want
from contract.topics import Channel, blob_topic, device_topic, parse_topic
from model.chunks import unframe

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.2
"""How often a waiting fetch looks at its deadlines and at `cancelled`."""

Sink = Callable[[BlobRef, bytes], None]


class MqttBlobSource:
    """A `BlobSource` over the broker's retained messages."""

    def __init__(
        self,
        connection: Connection,
        collectors: Collectors,
        device: str,
        patience: Patience | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        rate: TokenBucket | None = None,
    ) -> None:
        self._rate = rate or TokenBucket()
        self._connection = connection
        self._collectors = collectors
        self._device = device
        self._patience = patience or Patience()
        self._monotonic = monotonic

    def fetch(
        self,
        target: str,
        wanted: Sequence[BlobRef],
        sink: Sink,
        cancelled: Callable[[], bool],
    ) -> int:
        """See `agent.ports.BlobSource.fetch`."""
        collector = self._collectors.open()
        plan = FetchPlan.of(wanted, self._patience, self._monotonic(), self._rate)
        fetch = _Fetch(self._connection, collector, plan, self._device, target, self._monotonic)
        try:
            return fetch.run(sink, cancelled)
        finally:
            self._collectors.close(collector)
            fetch.leave()


class _Fetch:
    """One call of `fetch`: carries out the plan's steps."""

    def __init__(
        self,
        connection: Connection,
        collector: Collector,
        plan: FetchPlan,
        device: str,
        target: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._collector = collector
        self._plan = plan
        self._device = device
        self._target = target
        self._monotonic = monotonic
        self._generation = -1
        self._looked = 0.0
        self._parts = connection.parts
        self._finished: list[str] = []
        self._received = 0

    def run(self, sink: Sink, cancelled: Callable[[], bool]) -> int:
        while not self._plan.done and not cancelled():
            if self._is_connected(sink, cancelled):
                self._send(self._plan.fill(self._monotonic()))
                self._take(sink)
                self._look()
        return self._received

    def _look(self) -> None:
        """At deadlines: now and then, since chunks come by the thousand."""
        now = self._monotonic()
        if now - self._looked >= _LOOK_S:
            self._looked = now
            parts, self._parts = self._parts, self._connection.parts
            if parts != self._parts:
                self._plan.coming(now)
            self._send(self._plan.overdue(now))

    def leave(self) -> None:
        """Unsubscribe from whatever is still open."""
        self._finished.extend(blob_topic(digest) for digest in self._plan.open)
        for at in range(0, len(self._finished), MAX_TOPICS_PER_SUBSCRIBE):
            self._connection.unsubscribe(self._finished[at : at + MAX_TOPICS_PER_SUBSCRIBE])
        self._finished = []

    def _is_connected(self, sink: Sink, cancelled: Callable[[], bool]) -> bool:
        """Wait out an interruption; asks again for what was open. False when cancelled."""
        limit_s = self._plan.patience.reconnect_s
        deadline = self._monotonic() + limit_s
        while not self._connection.wait_connected(_LOOK_S):
            if cancelled():
                return False
            if self._monotonic() >= deadline:
                raise TransportFailed(f"no connection to the broker for {limit_s:.0f} s")
        generation = self._connection.generation
        if generation != self._generation:
            self._generation = generation
            # What came before the interruption must not be asked for again.
            self._take(sink, 0.0)
            self._send(self._plan.reconnected(self._monotonic()))
        return True

    def _take(self, sink: Sink, wait_s: float = _LOOK_S) -> None:
        """All that has arrived: at most a window."""
        for topic, payload in self._collector.take_all(wait_s):
            self._accept(topic, payload, sink)
            self._send(self._plan.fill(self._monotonic()))

    def _accept(self, topic: str, payload: bytes, sink: Sink) -> None:
        digest = parse_topic(topic).name
        ask = self._plan.open.get(digest)
        if ask is None:
            return  # it came a second time, having been asked for twice
        self._received += len(payload)
        if not payload:
            self._collector.expect([topic])
            self._send(self._plan.absent(digest, self._monotonic()))
            return
        try:
            data = unframe(payload, ask.ref.length, digest)
        except (MalformedBlob, DigestMismatch) as error:
            _LOG.warning("dropped blob %s…: %s", digest[:16], error)
            self._send(self._plan.broken(digest, str(error), self._monotonic()))
            return
        self._plan.arrived(digest, len(payload), self._monotonic())
        self._finish(topic)
        sink(ask.ref, data)

    def _finish(self, topic: str) -> None:
        self._finished.append(topic)
        if len(self._finished) >= MAX_TOPICS_PER_SUBSCRIBE:
            self._connection.unsubscribe(self._finished)
            self._finished = []

    def _send(self, step: Step) -> None:
        """A refusal means that the connection is gone; `reconnected` then asks anew.

        What is wanted from the hub is also asked for at the broker again: it may have got the blob
        in the moment in which nobody here expected one.
        """
        topics = [blob_topic(ref.digest) for ref in (*step.subscribe, *step.want)]
        if topics:
            self._collector.expect(topics)
            self._connection.subscribe(topics, 0)
        if step.want:
            blobs = [ref.digest for ref in step.want]
            _LOG.info("the broker lacks %d blobs of %s: asking the hub", len(blobs), self._target)
            message = Want(device=self._device, target=self._target, blobs=blobs)
            topic = device_topic(self._device, Channel.WANT)
            self._connection.publish(Publication(topic, encode(message)))
