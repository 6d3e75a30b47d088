"""Sends the broker everything that it does not hold: the thread behind the link's outgoing side.

The order is the contract: signed metadata before its index, the index and the blobs before the
assignment that needs them, and the epoch last of all, so that it never vouches for less.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

from contract.codec import encode
from contract.envelope import key_id
from contract.messages import Epoch, Want
from contract.topics import Channel, blob_topic, device_topic, epoch_topic
from fleet import assignments, owed
from fleet.epoch import EpochFile, sealed_by
from fleet.errors import BlobMissing, FleetError
from fleet.link import Link, LinkDown, Outgoing
from fleet.metadata_feed import MetadataFeed
from fleet.ports import HubServices
from fleet.seen_metadata import read_seen
from fleet.wants import DroppedWants, WantLimiter

_LOG = logging.getLogger(__name__)
LOOK_S = 1.0
"""How often the database is looked at without anybody's waking."""
EPOCH_WAIT_S = 0.25
"""A broker's memory follows its SUBACK at once; an epoch that is late costs a republication."""
REISSUE_EVERY_MS = 60_000
METADATA_EVERY_MS = 30_000
GRACE_MS = 24 * 3_600_000
WANTS_LENGTH = 1_024
_RETAINED = (Channel.ASSIGNMENT, Channel.PRESENCE, Channel.STATE)
T = TypeVar("T")


class Publisher:
    """Owned by the publisher's thread, which calls `step`; `want` may be called from any."""

    def __init__(self, hub: HubServices, link: Link, woken: threading.Event) -> None:
        """Nothing is sent before the first `step`."""
        self._hub = hub
        self._link = link
        self._woken = woken
        self._epoch_file = EpochFile(hub.directory / "run" / "epoch")
        self._feed = MetadataFeed(hub.repository)
        self._wants: queue.Queue[Want] = queue.Queue(WANTS_LENGTH)
        self._limiter = WantLimiter()
        self._dropped_wants = DroppedWants()
        self._generation = 0
        self._vouched = False
        """Whether the broker holds the epoch of this connection."""
        self._unneeded_since_ms: dict[str, int] = {}
        self._reissued_at_ms = 0
        self._looked_at_ms = 0
        self._look_at_metadata = True

    def want(self, want: Want) -> None:
        """A device asks for blobs; dropped when too many do, since it will ask again."""
        try:
            self._wants.put_nowait(want)
        except queue.Full:
            self._dropped_wants.add(want.device)
        else:
            self._woken.set()

    def step(self) -> None:
        """Wait until woken, at most a second, then send what is owed."""
        self._look_at_metadata |= self._woken.wait(LOOK_S)
        self._woken.clear()
        if not self._link.connected:
            return
        try:
            self._greet()
            self._send_owed()
        except LinkDown as error:
            _LOG.warning("%s; the rest is sent after the next connection", error)
            # No index may be taken for sent, and the epoch has to be looked at again.
            self._generation = 0

    def _greet(self) -> None:
        """Once a connection, and when the hub has a new key: whose memory does the broker hold?"""
        generation, key = self._link.generation, self._key()
        held = self._link.epoch
        if generation == self._generation and held is not None and sealed_by(held, key):
            return
        found = self._link.retained_epoch(EPOCH_WAIT_S)
        name = self._hub.config.name
        ours = self._epoch_file.read()
        known = found is not None and found.hub == name and found.epoch == ours
        if known and ours is not None and sealed_by(ours, key):
            self._link.epoch, self._vouched = ours, True
        else:
            self._link.epoch, self._vouched = self._epoch_file.fresh(key), False
            _LOG.info("the broker's memory is empty, foreign, or of a former key: sending all")
        self._feed.forget()
        self._look_at_metadata = True
        self._generation = generation

    def _send_owed(self) -> None:
        epoch = self._link.epoch
        assert epoch is not None  # noqa: S101 - narrows the type; _greet has set it
        now_ms = self._hub.clock()
        self._reissue(now_ms)
        self._send_metadata(now_ms)
        self._answer_wants(now_ms)
        if self._send_blobs(epoch):
            self._woken.set()  # more of them: an assignment must not go before its blobs
            return
        self._send_assignments(epoch)
        self._send_commands(now_ms)
        self._clear_removed(epoch)
        self._clear_blobs(epoch, now_ms)
        if not self._vouched:
            self._vouch(epoch, now_ms)

    def _send_metadata(self, now_ms: int) -> None:
        """Looking means to read and check every file, so not without a reason."""
        if not self._look_at_metadata and now_ms - self._looked_at_ms < METADATA_EVERY_MS:
            return
        self._looked_at_ms, self._look_at_metadata = now_ms, False
        try:
            self._hub.repository.sign_online(now_ms, self._seen(now_ms))
            self._link.send(self._feed.changes(now_ms))
        except FleetError as error:
            # Devices go on with what they have; their assignments and commands must not wait.
            _LOG.error("the TUF metadata cannot be published: %s", error)

    def _key(self) -> str:
        return key_id(self._hub.repository.assignment_key().public_key())

    def _seen(self, now_ms: int) -> dict[str, int]:
        with self._hub.storage.reading() as session:
            return read_seen(session, now_ms).versions

    def _reissue(self, now_ms: int) -> None:
        if now_ms - self._reissued_at_ms >= REISSUE_EVERY_MS:
            with self._hub.storage.session() as session:
                assignments.reissue_due(session, now_ms)
            self._reissued_at_ms = now_ms

    def _send_blobs(self, epoch: str) -> bool:
        """Send a batch; whether there may be more, which the next step sends."""
        most = self._hub.config.retain_at_most_bytes
        digests = self._read(lambda s: owed.owed_blobs(s, epoch, most))
        if digests:
            self._link.send(self._blobs(digests))
            with self._hub.storage.session() as session:
                owed.mark_blobs(session, digests, epoch)
        return bool(digests)

    def _answer_wants(self, now_ms: int) -> None:
        most = self._hub.config.retain_at_most_bytes
        wants = list(islice(_drain(self._wants), WANTS_LENGTH))
        for want in wants:
            with self._hub.storage.reading() as session:
                asked = (want.device, want.target, want.blobs)
                allowed = owed.allowed_blobs(session, *asked, most)
            admitted = self._limiter.admit(want.device, allowed, now_ms)
            self._link.send(self._blobs(admitted))

    def _send_assignments(self, epoch: str) -> None:
        key = self._hub.repository.assignment_key()
        while sealed := self._read(lambda s: owed.owed_assignments(s, epoch, key)):
            self._link.send(Outgoing(each.topic, each.payload, retain=True) for each in sealed)
            with self._hub.storage.session() as session:
                owed.mark_assignments(session, sealed, epoch)

    def _send_commands(self, now_ms: int) -> None:
        key = self._hub.repository.assignment_key()
        sealed = self._read(lambda s: owed.owed_commands(s, key, now_ms))
        if sealed:
            self._link.send(Outgoing(each.topic, each.payload, retain=False) for each in sealed)
            with self._hub.storage.session() as session:
                owed.mark_commands(session, sealed, now_ms)

    def _clear_removed(self, epoch: str) -> None:
        names = self._read(lambda s: owed.owed_clearings(s, epoch))
        if names:
            topics = [device_topic(name, channel) for name in names for channel in _RETAINED]
            self._link.send(Outgoing(topic, b"", retain=True) for topic in topics)
            with self._hub.storage.session() as session:
                owed.mark_cleared(session, names, epoch)

    def _clear_blobs(self, epoch: str, now_ms: int) -> None:
        """A release that nobody needs leaves the broker after a while: devices may be at it yet."""
        unneeded = self._read(lambda s: owed.unneeded_releases(s, epoch))
        since = self._unneeded_since_ms
        self._unneeded_since_ms = since = {r: since.get(r, now_ms) for r in unneeded}
        over = [release for release, start in since.items() if now_ms - start >= GRACE_MS]
        if over:
            _LOG.info("clearing the blobs of %s from the broker", ", ".join(over))
            with self._hub.storage.session() as session:
                owed.start_clearing(session, over, epoch)
        self._send_clearings(epoch)

    def _send_clearings(self, epoch: str) -> None:
        """Committed before and after: a hub that dies in between sends them again, and no blob is
        left at the broker for ever."""
        leaving = self._read(owed.owed_blob_clearings)
        if not leaving:
            return
        with self._hub.storage.reading() as session:
            held = owed.held_blobs(session, leaving, epoch)
        topics = [blob_topic(digest) for digest in leaving if digest not in held]
        self._link.send(Outgoing(topic, b"", retain=True) for topic in topics)
        with self._hub.storage.session() as session:
            owed.mark_blobs_cleared(session, leaving)
        self._woken.set()  # there may be more of them

    def _vouch(self, epoch: str, now_ms: int) -> None:
        """Only now may the next hub that connects take the broker's memory for whole."""
        message = Epoch(hub=self._hub.config.name, epoch=epoch, at_ms=now_ms)
        self._link.send([Outgoing(epoch_topic(), encode(message), retain=True)])
        self._epoch_file.write(epoch)
        self._vouched = True

    def _blobs(self, digests: list[str]) -> Iterator[Outgoing]:
        for digest in digests:
            try:
                yield Outgoing(blob_topic(digest), self._hub.blobs.get(digest), retain=True)
            except BlobMissing as error:
                # The others must not wait for a disk that lost one; the device will say so.
                _LOG.error("%s: publish its bundle again", error)

    def _read(self, query: Callable[..., list[T]]) -> list[T]:
        with self._hub.storage.reading() as session:
            return query(session)


def _drain(wants: queue.Queue[Want]) -> Iterator[Want]:
    while True:
        try:
            yield wants.get_nowait()
        except queue.Empty:
            return
