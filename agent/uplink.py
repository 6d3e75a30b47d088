"""What the device says to the hub: presence and state at once, the rest through the outbox.

Events, replies and reports are sealed or encoded when they are stored, as their number is inside;
they are sent until the hub acknowledges them. State and birth are retained, and said anew.
Owned by the main loop. Decides nothing about deployments.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from agent.delivery import Delivery
from agent.deployment.drafts import EventDraft, clip
from agent.link.connection import Connection, Publication
from agent.outbox import Kind, Outbox
from agent.stamps import Stamper
from contract.codec import encode
from contract.envelope import seal
from contract.messages import (
    WIRE_VERSION,
    Ack,
    Birth,
    Death,
    Event,
    FamilyState,
    Hardware,
    Reply,
    State,
)
from contract.topics import Channel, device_topic

HEARD = (Channel.ASSIGNMENT, Channel.COMMAND, Channel.ACK)


@dataclass(frozen=True)
class Speaker:
    """Who speaks: what each message needs of the device."""

    device: str
    session: str
    agent: str
    key: EllipticCurvePrivateKey
    hardware: Hardware
    stamper: Stamper

    def topic(self, channel: Channel) -> str:
        """Of this device."""
        return device_topic(self.device, channel)

    def death(self) -> Publication:
        """The will, and the farewell."""
        message = Death(device=self.device, session=self.session)
        return Publication(self.topic(Channel.PRESENCE), encode(message), retain=True)

    def birth(self) -> Publication:
        """Who is here."""
        message = Birth(
            device=self.device,
            session=self.session,
            agent=self.agent,
            wire=[WIRE_VERSION],
            hardware=self.hardware,
            stamp=self.stamper.now(),
        )
        return Publication(self.topic(Channel.PRESENCE), encode(message), retain=True)


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What a reported state tells, but for the moment at which it is told."""

    assignment_seq: int
    families: Mapping[str, FamilyState]
    tuf_versions: Mapping[str, int]

    def without_counts(self) -> Condition:
        """What makes a state worth telling at once; good inferences grow all the time."""
        quiet = {f: msgspec.structs.replace(s, good_inferences=0) for f, s in self.families.items()}
        return msgspec.structs.replace(self, families=quiet)


class Uplink:
    """The device's side of every `up/` topic but `want`."""

    def __init__(
        self,
        speaker: Speaker,
        connection: Connection,
        outbox: Outbox,
        delivery: Delivery,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._speaker = speaker
        self._connection = connection
        self._outbox = outbox
        self._delivery = delivery
        self._chance = chance
        self._told: Condition | None = None

    @property
    def _boot(self) -> str:
        return self._speaker.stamper.boot

    def greet(self) -> bool:
        """After each connect: the birth, then ear for the hub. False when cut off again."""
        self._told = None
        self._delivery.reconnected()
        topics = [self._speaker.topic(channel) for channel in HEARD]
        return self._connection.publish(self._speaker.birth()) and self._connection.subscribe(
            topics
        )

    def tell_state(
        self, condition: Condition, free_bytes: int, heartbeat_s: float, again: bool = False
    ) -> bool:
        """Publish the state when it changed, or `again`; whether it was published."""
        known = self._told.without_counts() if self._told is not None else None
        if not again and known == condition.without_counts():
            return False
        state = State(
            device=self._speaker.device,
            stamp=self._speaker.stamper.now(),
            assignment_seq=condition.assignment_seq,
            families=dict(condition.families),
            tuf_versions=dict(condition.tuf_versions),
            outbox_pending=self._outbox.pending,
            outbox_dropped=self._outbox.dropped,
            free_bytes=free_bytes,
            heartbeat_s=max(1, round(heartbeat_s)),
        )
        payload = seal(state, self._speaker.key)
        topic = self._speaker.topic(Channel.STATE)
        if not self._connection.publish(Publication(topic, payload, retain=True)):
            return False
        self._told = condition
        return True

    def event(self, draft: EventDraft) -> None:
        """Store a deployment's transition; the same draft a second time is stored once."""
        stamp = self._speaker.stamper.now()

        def make(seq: int) -> bytes:
            event = Event(
                device=self._speaker.device,
                seq=seq,
                stamp=stamp,
                family=draft.family,
                target=draft.target,
                digest=draft.digest,
                rollout=draft.rollout,
                assignment_seq=draft.assignment_seq,
                phase=draft.phase,
                outcome=draft.outcome,
                cause=draft.cause,
                detail=draft.detail,
                figures=draft.figures,
            )
            return seal(event, self._speaker.key)

        self._store(Kind.EVENT, Channel.EVENT, make, f"event {draft.key}")

    def reply(self, command: str, ok: bool, detail: str) -> None:
        """Store the answer to a command."""
        stamp = self._speaker.stamper.now()

        def make(seq: int) -> bytes:
            reply = Reply(
                device=self._speaker.device,
                seq=seq,
                stamp=stamp,
                command=command,
                ok=ok,
                detail=clip(detail),
            )
            return seal(reply, self._speaker.key)

        self._store(Kind.EVENT, Channel.EVENT, make, f"reply {command}")

    def report(self, make: Callable[[int], bytes]) -> None:
        """Store one window report."""
        self._store(Kind.REPORT, Channel.REPORT, make, None)

    def acknowledged(self, ack: Ack, now_s: float) -> None:
        """The hub has committed these rows: forget them."""
        for acked in ack.acked:
            gone = self._outbox.acknowledge(acked.boot, acked.seqs)
            self._delivery.acknowledged(gone, now_s)

    def pump(self, now_s: float) -> int:
        """Send what is due, and what has room; how many rows went out."""
        rows = [self._outbox.row(seq) for seq in self._delivery.overdue(now_s)]
        self._forget_dropped(now_s)
        room = self._delivery.room()
        if room:
            rows += self._outbox.oldest(room, without=self._delivery.under_way())
        sent = 0
        for row in rows:
            if row is None:
                continue
            if not self._connection.publish(Publication(row.topic, row.payload)):
                break
            self._delivery.was_sent(row.seq, now_s, self._chance())
            sent += 1
        return sent

    def _store(
        self, kind: Kind, channel: Channel, make: Callable[[int], bytes], key: str | None
    ) -> None:
        self._outbox.append(self._boot, kind, self._speaker.topic(channel), make, key)

    def _forget_dropped(self, now_s: float) -> None:
        overdue = self._delivery.overdue(now_s)
        self._delivery.forget(seq for seq in overdue if self._outbox.row(seq) is None)
