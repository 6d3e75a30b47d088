"""One batch of genuine messages, as rows: what each kind changes, and which rows to acknowledge.

Works in the caller's transaction and never commits. A row of an outbox is stored once, however
often it comes; it is acknowledged each time.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.messages import Birth, Death, Event, Reply, Report, State
from fleet.storage.schema import Device, OutgoingCommand, Received, StoredEvent, StoredReport

OutboxRow = Event | Reply | Report
Acknowledged = dict[str, dict[str, list[int]]]
"""Device -> boot -> sequence numbers."""
MAX_PAST_BOOTS = 32


class Batch:
    """The rows of one transaction."""

    def __init__(self, session: Session, now_ms: int) -> None:
        """`session` is open for writing; the caller commits."""
        self.now_ms = now_ms
        self.acknowledged: Acknowledged = {}
        self.stored = 0
        self._session = session
        self._new: set[tuple[str, str, int]] = set()

    def seen(self, device: str) -> Device:
        """The device's row; it was heard of just now."""
        row = self._session.get_one(Device, device)
        row.last_seen_ms = self.now_ms
        return row

    def presence(self, message: Birth | Death, retained: bool) -> None:
        """A birth says who is there; a death counts only for the session that it names."""
        row = self._session.get_one(Device, message.device)
        if isinstance(message, Death):
            row.online = row.online and row.session != message.session
            return
        if not retained:
            row.last_seen_ms = self.now_ms
        row.online = True
        row.session = message.session
        row.agent = message.agent
        row.wire = list(message.wire)
        row.hardware = msgspec.to_builtins(message.hardware)

    def state(self, message: State, retained: bool) -> bool:
        """Take a reported state, unless it is older than the one held; False for a replay.

        Boots have no order of their own, so those that were superseded are remembered.
        """
        row = self._session.get_one(Device, message.device)
        stamp = message.stamp
        if stamp.boot in row.past_boots or (
            stamp.boot == row.state_boot and stamp.mono_ms < row.state_mono_ms
        ):
            return False
        if row.state_boot not in (None, stamp.boot):
            row.past_boots = [*row.past_boots, row.state_boot][-MAX_PAST_BOOTS:]
        if not retained:
            row.last_seen_ms = self.now_ms
        row.state_boot, row.state_mono_ms = stamp.boot, stamp.mono_ms
        row.state_at_ms = stamp.at_ms
        row.reported_seq = message.assignment_seq
        row.families = msgspec.to_builtins(message.families)
        row.tuf_versions = dict(message.tuf_versions)
        for name in ("outbox_pending", "outbox_dropped", "free_bytes", "heartbeat_s"):
            setattr(row, name, getattr(message, name))
        return True

    def outbox_row(self, message: OutboxRow) -> None:
        """Store an event, a reply or a report exactly once, and acknowledge it."""
        self.seen(message.device)
        key = (message.device, message.stamp.boot, message.seq)
        boots = self.acknowledged.setdefault(message.device, {})
        boots.setdefault(message.stamp.boot, []).append(message.seq)
        if key in self._new or self._is_stored(message, key):
            return
        self._new.add(key)
        self._session.add(Received(device=key[0], boot=key[1], seq=key[2], at_ms=self.now_ms))
        self.stored += 1
        if isinstance(message, Report):
            self._session.add(self._report(message))
            return
        self._session.add(self._event(message))
        if isinstance(message, Reply):
            self._reply(message)

    def _is_stored(self, message: OutboxRow, key: tuple[str, str, int]) -> bool:
        """`received` forgets sooner than events do (fleet.retention), so those are asked, too."""
        if self._session.get(Received, key) is not None:
            return True
        table = StoredReport if isinstance(message, Report) else StoredEvent
        same = (table.device == key[0], table.boot == key[1], table.seq == key[2])
        return self._session.scalar(select(table.id).where(*same)) is not None

    def _report(self, message: Report) -> StoredReport:
        return StoredReport(
            device=message.device,
            boot=message.stamp.boot,
            seq=message.seq,
            at_ms=message.stamp.at_ms,
            window_ms=message.window_ms,
            received_at_ms=self.now_ms,
            body=msgspec.to_builtins(message),
        )

    def _event(self, message: Event | Reply) -> StoredEvent:
        body: dict[str, Any] = msgspec.to_builtins(message)
        stamp = body.pop("stamp")
        body.pop("v")
        return StoredEvent(received_at_ms=self.now_ms, **stamp, **body)

    def _reply(self, message: Reply) -> None:
        found = self._session.scalar(
            select(OutgoingCommand)
            .where(OutgoingCommand.id == message.command)
            .where(OutgoingCommand.device == message.device)
        )
        if found is not None:
            found.replied_at_ms = self.now_ms
            found.ok, found.detail = message.ok, message.detail
