"""The tables of the hub, as SQLAlchemy 2 declarative classes.

Owns names, types and constraints; holds no queries and no rules. Times are UTC milliseconds
(`_ms`), JSON columns hold what msgspec.to_builtins gives for the contract's structs. Portable
between SQLite and PostgreSQL. A change here needs a migration beside it (storage/migrations).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# SQLite numbers rows by itself only in a column that is declared INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")
Json = dict[str, Any]

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints get the same names everywhere, so that a later migration can drop one."""


class Table(DeclarativeBase):
    """Common metadata, and the Python types that more than one column has."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own class-level declaration
        int: BigInteger,
        Json: JSON,
        list[Any]: JSON,
    }


class Device(Table):
    """One device: what the operator said, and what it last reported.

    `status` is `expected` (added, no certificate yet), `enrolled` or `revoked`. Assignments: the
    rows of `assignments` are the desired state with number `assignment_seq`; the link owes the
    broker a message while `published_seq` is below it.
    """

    __tablename__ = "devices"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    device_class: Mapped[str] = mapped_column(String(63))
    labels: Mapped[Json]
    """Label -> value, both strings."""
    status: Mapped[str] = mapped_column(String(16), index=True)
    created_at_ms: Mapped[int]
    enrolled_at_ms: Mapped[int | None]

    assignment_seq: Mapped[int] = mapped_column(default=0)
    published_seq: Mapped[int] = mapped_column(default=0)
    assignment_issued_at_ms: Mapped[int] = mapped_column(default=0)
    assignment_expires_at_ms: Mapped[int] = mapped_column(default=0)

    last_seen_ms: Mapped[int | None]
    """The hub's time when any message of the device came."""
    online: Mapped[bool] = mapped_column(default=False)
    """Birth without a death since: a hint only."""
    session: Mapped[str | None] = mapped_column(String(32))
    agent: Mapped[str] = mapped_column(String(200), default="")
    wire: Mapped[list[Any]] = mapped_column(JSON, default=list)
    hardware: Mapped[Json] = mapped_column(JSON, default=dict)
    """contract.messages.Hardware."""
    reported_seq: Mapped[int] = mapped_column(default=0)
    """The assignment that the device says it holds."""
    families: Mapped[Json] = mapped_column(JSON, default=dict)
    """Family -> contract.messages.FamilyState, from the last verified State."""
    state_boot: Mapped[str | None] = mapped_column(String(32))
    state_mono_ms: Mapped[int] = mapped_column(default=0)
    state_at_ms: Mapped[int | None]
    tuf_versions: Mapped[Json] = mapped_column(JSON, default=dict)
    outbox_pending: Mapped[int] = mapped_column(default=0)
    outbox_dropped: Mapped[int] = mapped_column(default=0)
    free_bytes: Mapped[int] = mapped_column(default=0)
    heartbeat_s: Mapped[int] = mapped_column(default=900)


class Certificate(Table):
    """A leaf that the hub issued. More than one of a device may be valid while it renews."""

    __tablename__ = "certificates"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of the DER."""
    device: Mapped[str] = mapped_column(ForeignKey("devices.name"), index=True)
    serial: Mapped[str] = mapped_column(String(40), unique=True)
    public_key_pem: Mapped[str] = mapped_column(Text)
    not_before_ms: Mapped[int]
    not_after_ms: Mapped[int]
    revoked_at_ms: Mapped[int | None]


class Enrolment(Table):
    """An enrolment file that is out. After use the secret is gone; what remains is the reply."""

    __tablename__ = "enrolments"

    device: Mapped[str] = mapped_column(ForeignKey("devices.name"), primary_key=True)
    secret: Mapped[str | None] = mapped_column(String(64))
    created_at_ms: Mapped[int]
    expires_at_ms: Mapped[int]
    attempts: Mapped[int] = mapped_column(default=0)
    used_at_ms: Mapped[int | None]
    request_digest: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 over the request that was answered, so that an exact retry gets the same answer."""
    reply: Mapped[Json | None]


class Release(Table):
    """A published release: `target` is `family/version`, `digest` is its manifest's."""

    __tablename__ = "releases"

    target: Mapped[str] = mapped_column(String(127), primary_key=True)
    family: Mapped[str] = mapped_column(String(63), index=True)
    version: Mapped[str] = mapped_column(String(63))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    counter: Mapped[int]
    device_classes: Mapped[list[Any]]
    """From the signed target; empty: every class."""
    manifest: Mapped[bytes] = mapped_column(LargeBinary)
    bundle_bytes: Mapped[int]
    bundle_digest: Mapped[str] = mapped_column(String(64))
    published_at_ms: Mapped[int]
    published_by: Mapped[str] = mapped_column(String(63))


class Blob(Table):
    """One blob of one release; `size` is that of the framed payload in the blob store."""

    __tablename__ = "blobs"

    release: Mapped[str] = mapped_column(
        ForeignKey("releases.target", ondelete="CASCADE"), primary_key=True
    )
    digest: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    size: Mapped[int]


class AssignedFamily(Table):
    """What one family of one device should be: contract.messages.FamilyAssignment."""

    __tablename__ = "assignments"

    device: Mapped[str] = mapped_column(ForeignKey("devices.name"), primary_key=True)
    family: Mapped[str] = mapped_column(String(63), primary_key=True)
    target: Mapped[str] = mapped_column(String(127))
    digest: Mapped[str] = mapped_column(String(64))
    rollout: Mapped[str] = mapped_column(String(63))
    mode: Mapped[str] = mapped_column(String(16))
    deadline_ms: Mapped[int]
    probation: Mapped[Json]
    seq: Mapped[int]
    """The assignment in which this family was last changed."""


class OutgoingCommand(Table):
    """A command for one device; the link owes it to the broker while `published_at_ms` is null."""

    __tablename__ = "commands"

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    device: Mapped[str] = mapped_column(ForeignKey("devices.name"), index=True)
    verb: Mapped[str] = mapped_column(String(32))
    family: Mapped[str | None] = mapped_column(String(63))
    issued_at_ms: Mapped[int]
    expires_at_ms: Mapped[int]
    published_at_ms: Mapped[int | None] = mapped_column(index=True)
    replied_at_ms: Mapped[int | None]
    ok: Mapped[bool | None]
    detail: Mapped[str] = mapped_column(Text, default="")


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
    reason: Mapped[str] = mapped_column(Text, default="")
    created_at_ms: Mapped[int]
    created_by: Mapped[str] = mapped_column(String(63))
    updated_at_ms: Mapped[int]
    finished_at_ms: Mapped[int | None]


class RolloutDevice(Table):
    """One device in one rollout: its wave, what it had before, and how it ended."""

    __tablename__ = "rollout_devices"

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


class Token(Table):
    """An API token: only the SHA-256 of it is kept."""

    __tablename__ = "tokens"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    created_at_ms: Mapped[int]
    revoked_at_ms: Mapped[int | None]


class AuditEntry(Table):
    """Who did what: every change that came through the API."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    at_ms: Mapped[int]
    actor: Mapped[str] = mapped_column(String(63))
    action: Mapped[str] = mapped_column(String(63))
    subject: Mapped[str] = mapped_column(String(200))
    detail: Mapped[Json] = mapped_column(JSON, default=dict)


class Rejected(Table):
    """How many messages were refused, by channel and error class."""

    __tablename__ = "counters"

    channel: Mapped[str] = mapped_column(String(32), primary_key=True)
    error: Mapped[str] = mapped_column(String(63), primary_key=True)
    count: Mapped[int]
    last_at_ms: Mapped[int]
    last_topic: Mapped[str] = mapped_column(String(200))
