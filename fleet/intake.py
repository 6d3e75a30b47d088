"""The ingest thread's step: takes a batch off the link, has it stored, and sends what follows.

Acks go out after the commit and never before: then the device forgets what the hub now holds.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

from contract.codec import encode
from contract.messages import Want
from contract.topics import Channel, device_topic
from fleet.inbox import Incoming
from fleet.ingest import Ingest
from fleet.link import Link, Outgoing
from fleet.ports import Clock

BATCH_LENGTH = 200
BATCH_S = 0.1
"""A batch waits this long for more, so that one commit serves many messages."""
IDLE_S = 0.2


class Intake:
    """Owned by the ingest thread, which calls `step`."""

    def __init__(self, link: Link, ingest: Ingest, want: Callable[[Want], None], clock: Clock):
        """`want` is given what devices ask for, after the commit."""
        self._link = link
        self._ingest = ingest
        self._want = want
        self._clock = clock
        self._batch: list[Incoming] = []

    def step(self) -> None:
        """One batch, or a short wait without one.

        A batch that could not be stored is kept and tried again at the next step.
        """
        if not self._batch:
            self._batch = self._collect()
        if not self._batch:
            return
        now_ms = self._clock()
        dropped = self._link.take_dropped()
        if dropped:
            self._ingest.rejections.add("", "QueueFull", f"{dropped} messages", now_ms, dropped)
        outcome = self._ingest.store(self._batch, now_ms)
        self._batch = []
        for ack in outcome.acks:
            topic = device_topic(ack.device, Channel.ACK)
            self._link.offer(Outgoing(topic, encode(ack), retain=False))
        for want in outcome.wants:
            self._want(want)

    def _collect(self) -> list[Incoming]:
        try:
            batch = [self._link.incoming.get(timeout=IDLE_S)]
        except queue.Empty:
            return []
        deadline = time.monotonic() + BATCH_S
        while len(batch) < BATCH_LENGTH and (left := deadline - time.monotonic()) > 0:
            try:
                batch.append(self._link.incoming.get(timeout=left))
            except queue.Empty:
                break
        return batch
