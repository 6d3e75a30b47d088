"""The tables of rollouts: what was asked, how each device fares, and every decision."""

from __future__ import annotations

from sqlalchemy import JSON, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from fleet.storage.base import Json, RowId, Table


class Rollout(Table):
    """One rollout. `spec` holds the request in full; the columns are what queries need."""

    __tablename__ = "rollouts"

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    """`rollout`, `rollback`."""
    family: Mapped[str] = mapped_column(String(63), index=True)
    target: Mapped[str] = mapped_column(ForeignKey("releases.target"))
    digest: Mapped[str] = mapped_column(String(64))
    selector: Mapped[str] = mapped_column(Text)
    spec: Mapped[Json]
    status: Mapped[str] = mapped_column(String(16), index=True)
    wave: Mapped[int] = mapped_column(default=0)
    """Index of the wave under way."""
    wave_started_at_ms: Mapped[int | None]
    report_cursor: Mapped[int] = mapped_column(default=0)
    """The last row of `reports` that was counted into `rollout_devices.evidence`."""
    reason: Mapped[str] = mapped_column(Text, default="")
    created_at_ms: Mapped[int]
    created_by: Mapped[str] = mapped_column(String(63))
    updated_at_ms: Mapped[int]
    finished_at_ms: Mapped[int | None]


class RolloutDevice(Table):
    """One device in one rollout: its wave, what it had before, and how it ended."""

    __tablename__ = "rollout_devices"
    __table_args__ = (
        # Each tick asks which devices of rollouts that are over are not settled.
        Index("ix_rollout_devices_standing", "status", "outcome", "late_outcome"),
    )

    rollout: Mapped[str] = mapped_column(
        ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True
    )
    device: Mapped[str] = mapped_column(ForeignKey("devices.name"), primary_key=True, index=True)
    position: Mapped[int]
    """Place in the cohort's order."""
    wave: Mapped[int]
    status: Mapped[str] = mapped_column(String(24))
    """`waiting`, `assigned`, `serving`, `done`, `reverting`, `reverted`, `skipped`."""
    previous_target: Mapped[str | None] = mapped_column(String(127))
    previous_digest: Mapped[str | None] = mapped_column(String(64))
    assigned_seq: Mapped[int | None]
    assigned_at_ms: Mapped[int | None]
    deadline_ms: Mapped[int | None]
    serving_since_ms: Mapped[int | None]
    good_inferences: Mapped[int] = mapped_column(default=0)
    phase: Mapped[str | None] = mapped_column(String(24))
    outcome: Mapped[str | None] = mapped_column(String(24))
    cause: Mapped[str | None] = mapped_column(String(32))
    detail: Mapped[str] = mapped_column(Text, default="")
    finished_at_ms: Mapped[int | None]
    late_outcome: Mapped[str | None] = mapped_column(String(24))
    """What came after TIMED_OUT: recorded, and does not reopen the gate."""
    evidence: Mapped[Json] = mapped_column(JSON, default=dict)


class Decision(Table):
    """What the engine decided on a rollout, with the evidence that it saw."""

    __tablename__ = "decisions"
    __table_args__ = (Index("ix_decisions_rollout_id", "rollout", "id"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    rollout: Mapped[str] = mapped_column(ForeignKey("rollouts.id", ondelete="CASCADE"))
    at_ms: Mapped[int]
    wave: Mapped[int]
    action: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(Text)
    evidence: Mapped[Json]
