"""The tables of what devices sent: each row of an outbox once, and what was refused."""

from __future__ import annotations

from sqlalchemy import JSON, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from fleet.storage.base import Json, RowId, Table


class Received(Table):
    """Outbox rows that were stored, by (device, boot, seq): each is stored exactly once."""

    __tablename__ = "received"

    device: Mapped[str] = mapped_column(String(63), primary_key=True)
    boot: Mapped[str] = mapped_column(String(32), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    at_ms: Mapped[int] = mapped_column(index=True)


class StoredEvent(Table):
    """A verified Event or Reply. `id` orders them as the hub stored them."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("device", "boot", "seq"),
        Index("ix_events_rollout_device", "rollout", "device"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    """`event` or `reply`."""
    device: Mapped[str] = mapped_column(String(63), index=True)
    boot: Mapped[str] = mapped_column(String(32))
    seq: Mapped[int]
    mono_ms: Mapped[int]
    at_ms: Mapped[int]
    clock_trusted: Mapped[bool]
    received_at_ms: Mapped[int]
    family: Mapped[str | None] = mapped_column(String(63))
    target: Mapped[str | None] = mapped_column(String(127))
    digest: Mapped[str | None] = mapped_column(String(64))
    rollout: Mapped[str | None] = mapped_column(String(63))
    assignment_seq: Mapped[int] = mapped_column(default=0)
    phase: Mapped[str | None] = mapped_column(String(24))
    outcome: Mapped[str | None] = mapped_column(String(24))
    cause: Mapped[str | None] = mapped_column(String(32))
    command: Mapped[str | None] = mapped_column(String(63))
    ok: Mapped[bool | None]
    detail: Mapped[str] = mapped_column(Text, default="")
    figures: Mapped[Json] = mapped_column(JSON, default=dict)


class StoredReport(Table):
    """One window of measurements: contract.messages.Report, whole, in `body`."""

    __tablename__ = "reports"
    __table_args__ = (
        UniqueConstraint("device", "boot", "seq"),
        Index("ix_reports_device_id", "device", "id"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    device: Mapped[str] = mapped_column(String(63))
    boot: Mapped[str] = mapped_column(String(32))
    seq: Mapped[int]
    at_ms: Mapped[int]
    window_ms: Mapped[int]
    received_at_ms: Mapped[int] = mapped_column(index=True)
    body: Mapped[Json]


class Rejected(Table):
    """How many messages were refused, by channel and error class."""

    __tablename__ = "counters"

    channel: Mapped[str] = mapped_column(String(32), primary_key=True)
    error: Mapped[str] = mapped_column(String(63), primary_key=True)
    count: Mapped[int]
    last_at_ms: Mapped[int]
    last_topic: Mapped[str] = mapped_column(String(200))
