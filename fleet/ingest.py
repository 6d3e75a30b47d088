"""Stores what devices say: verifies, removes duplicates, commits; only then says what to ack.

A message counts only when its topic, its content and (for events and state) its signature name the
same enrolled device. Refused messages are counted and never raise. Sends nothing itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from contract.codec import CHANNEL_KINDS, decode_on
from contract.envelope import open_sealed
from contract.errors import ContractError
from contract.messages import Ack, Acked, Birth, Death, Event, Message, Reply, Report, State, Want
from contract.topics import Channel, Topic, parse_topic
from fleet import records
from fleet.identities import Identities, Identity
from fleet.inbox import Incoming
from fleet.rejections import Rejections
from fleet.storage.database import Storage
from fleet.storage.schema import Device

_LOG = logging.getLogger(__name__)
UP_CHANNELS = (Channel.PRESENCE, Channel.STATE, Channel.EVENT, Channel.REPORT, Channel.WANT)
SIGNED = frozenset({Channel.STATE, Channel.EVENT})
_MAX_SEQS, _MAX_BOOTS = 512, 16


class UnknownDevice(Exception):
    """The topic's device was never added here, or has no certificate yet."""


class RevokedDevice(Exception):
    """The topic's device was removed."""


class WrongDevice(Exception):
    """A message names another device than its topic does."""


class NotDevicesChannel(Exception):
    """A topic on which devices have nothing to say."""


@dataclass
class Outcome:
    """What a committed batch leads to."""

    acks: list[Ack] = field(default_factory=list)
    wants: list[Want] = field(default_factory=list)
    stored: int = 0
    """Events, replies and reports that were new."""


@dataclass(frozen=True)
class _Genuine:
    topic: str
    message: Message
    retained: bool


class Ingest:
    """Takes batches to the database. Owned by the ingest thread."""

    def __init__(self, storage: Storage) -> None:
        """Keeps the devices' keys in memory between batches."""
        self._storage = storage
        self._identities = Identities(storage)
        self.rejections = Rejections()

    def store(self, batch: Sequence[Incoming], now_ms: int) -> Outcome:
        """Store one batch (a few hundred at most) in one transaction. What it returns is committed.

        When the batch as a whole cannot be stored, each message is tried alone, so that one poison
        message does not hold up the others. Raises only when the database itself is unwell.
        """
        self._identities.refresh({name for each in batch if (name := _device_of(each.topic))})
        genuine = [found for incoming in batch if (found := self._open(incoming, now_ms))]
        try:
            return self._commit(genuine, now_ms)
        except (SQLAlchemyError, ValueError, TypeError, OverflowError) as error:
            _LOG.warning("storing %d messages one by one: %s", len(genuine), error)
        return self._commit_singly(genuine, now_ms)

    def _open(self, incoming: Incoming, now_ms: int) -> _Genuine | None:
        if not incoming.payload:
            return None  # a retained topic that was cleared
        try:
            message = self._verify(incoming)
        except (
            ContractError,
            UnknownDevice,
            RevokedDevice,
            WrongDevice,
            NotDevicesChannel,
        ) as error:
            self.rejections.add(incoming.topic, type(error).__name__, str(error), now_ms)
            return None
        return _Genuine(incoming.topic, message, incoming.retained)

    def _verify(self, incoming: Incoming) -> Message:
        topic = parse_topic(incoming.topic)
        if topic.channel not in UP_CHANNELS:
            raise NotDevicesChannel(topic.channel.value)
        identity = self._identify(topic)
        if topic.channel in SIGNED:
            kinds = CHANNEL_KINDS[topic.channel]
            message = open_sealed(kinds, incoming.payload, identity.keys)
        else:
            message = decode_on(topic.channel, incoming.payload)
        named = getattr(message, "device", None)
        if named != topic.name:
            raise WrongDevice(f"a message of {named} on the topic of {topic.name}")
        return message

    def _identify(self, topic: Topic) -> Identity:
        identity = self._identities.find(topic.name)
        if identity is None or identity.status == "expected":
            raise UnknownDevice(topic.name)
        if identity.status == "revoked":
            raise RevokedDevice(topic.name)
        return identity

    def _commit(self, genuine: Sequence[_Genuine], now_ms: int) -> Outcome:
        outcome = Outcome()
        with self._storage.session() as session:
            batch = records.Batch(session, now_ms)
            for each in genuine:
                self._record(batch, each, outcome)
            outcome.stored = batch.stored
            self.rejections.save(session)
        self.rejections.saved()
        outcome.acks = list(_acks(batch.acknowledged))
        return outcome

    def _commit_singly(self, genuine: Sequence[_Genuine], now_ms: int) -> Outcome:
        whole = Outcome()
        for each in genuine:
            try:
                one = self._commit([each], now_ms)
            except (SQLAlchemyError, ValueError, TypeError, OverflowError) as error:
                if _database_is_unwell(self._storage):
                    raise
                self.rejections.add(each.topic, type(error).__name__, str(error), now_ms)
                continue
            whole.acks += one.acks
            whole.wants += one.wants
            whole.stored += one.stored
        return whole

    def _record(self, batch: records.Batch, each: _Genuine, outcome: Outcome) -> None:
        message = each.message
        if isinstance(message, (Birth, Death)):
            batch.presence(message, each.retained)
        elif isinstance(message, State):
            if not batch.state(message, each.retained):
                self.rejections.add(each.topic, "ReplayedState", message.stamp.boot, batch.now_ms)
        elif isinstance(message, (Event, Reply, Report)):
            batch.outbox_row(message)
        elif isinstance(message, Want):
            batch.seen(message.device)
            outcome.wants.append(message)


def _device_of(topic: str) -> str:
    try:
        return parse_topic(topic).name
    except ContractError:
        return ""


def _acks(acknowledged: records.Acknowledged) -> list[Ack]:
    """As few messages as the bounds on an Ack allow."""
    found: list[Ack] = []
    for device, boots in acknowledged.items():
        parts = [
            Acked(boot, seqs[start : start + _MAX_SEQS])
            for boot, seqs in boots.items()
            for start in range(0, len(seqs), _MAX_SEQS)
        ]
        found += [
            Ack(device=device, acked=parts[start : start + _MAX_BOOTS])
            for start in range(0, len(parts), _MAX_BOOTS)
        ]
    return found


def _database_is_unwell(storage: Storage) -> bool:
    try:
        with storage.session() as session:
            _touch(session)
    except SQLAlchemyError:
        return True
    return False


def _touch(session: Session) -> None:
    """A write that changes nothing: fails where the disk is full or the file is gone."""
    session.execute(update(Device).where(Device.name == "").values(online=False))
