"""The tables of the hub, as SQLAlchemy 2 declarative classes; the one place to import them from.

Owns names, types and constraints; holds no queries and no rules. Times are UTC milliseconds
(`_ms`), JSON columns hold what msgspec.to_builtins gives for the contract's structs. Portable
between SQLite and PostgreSQL. A change here needs a migration beside it (storage/migrations).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from fleet.storage.base import Json, RowId, Table
from fleet.storage.received_tables import Received, Rejected, StoredEvent, StoredReport
from fleet.storage.rollout_tables import Decision, Rollout, RolloutDevice

__all__ = [
    "AssignedFamily",
    "AuditEntry",
    "Blob",
    "Certificate",
    "Decision",
    "Device",
    "Enrolment",
    "Json",
    "OutgoingCommand",
    "Received",
    "Rejected",
    "Release",
    "Rollout",
    "RolloutDevice",
    "StoredEvent",
    "StoredReport",
    "Table",
    "Token",
]


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
    published_epoch: Mapped[str | None] = mapped_column(String(32))
    """The broker memory that holds `published_seq` (or, if revoked, that was cleared of it)."""
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
    past_boots: Mapped[list[Any]] = mapped_column(JSON, default=list)
    """Boots before `state_boot`: a State of one of these is a replay."""
    state_at_ms: Mapped[int | None]
    tuf_versions: Mapped[Json] = mapped_column(JSON, default=dict)
    outbox_pending: Mapped[int] = mapped_column(default=0)
    outbox_dropped: Mapped[int] = mapped_column(default=0)
    free_bytes: Mapped[int] = mapped_column(default=0)
    heartbeat_s: Mapped[int] = mapped_column(default=900)
    renewal_at_ms: Mapped[int | None]
    """The time of its last renewal request: an older one is a replay."""
    takeover_since_ms: Mapped[int | None] = mapped_column(index=True)
    """Since when its former session at the broker is owed its end; None: none is."""


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
    chain_pem: Mapped[str | None] = mapped_column(Text)
    """As it was given; None for one issued before hubs kept it."""
    issuer: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 of the intermediate that signed it; None: of the only one that there was."""


class Enrolment(Table):
    """An enrolment file that is out. After use the secret is gone; what remains is the reply."""

    __tablename__ = "enrolments"

    device: Mapped[str] = mapped_column(ForeignKey("devices.name"), primary_key=True)
    secret: Mapped[str | None] = mapped_column(String(64))
    created_at_ms: Mapped[int]
    expires_at_ms: Mapped[int]
    attempts: Mapped[int] = mapped_column(default=0)
    """Of older hubs, which counted wrong tries; nothing reads it."""
    used_at_ms: Mapped[int | None]
    request_digest: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 over the request that was answered, so that an exact retry gets the same answer."""
    reply: Mapped[Json | None]
    key_id: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 of the key that asks, while its request waits for an operator's word."""
    claims: Mapped[Json | None]
    """What the asking machine says of itself: contract.enrolment.Claims."""
    asked_at_ms: Mapped[int | None]
    approved_at_ms: Mapped[int | None]


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
    published_epoch: Mapped[str | None] = mapped_column(String(32))
    """The broker memory that holds it; None: none."""


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
    metered_bytes: Mapped[int | None]


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
