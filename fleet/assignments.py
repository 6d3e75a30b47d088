"""What each device should be: changes the desired state and builds the message from it.

Changing and sending are two steps: this file writes rows in the caller's transaction; after the
commit the link publishes what the broker does not hold yet. Decides nothing about who gets what.
"""

from __future__ import annotations

import secrets

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from contract.messages import Assignment, Command, FamilyAssignment, Verb
from fleet.errors import DeviceNotFound
from fleet.storage.schema import AssignedFamily, Device, OutgoingCommand

LIFETIME_MS = 30 * 86_400_000
REISSUE_MS = 10 * 86_400_000
"""An assignment with less than this left is signed again, under the same number."""
REISSUED_AT_ONCE = 1_000
"""A statement names so many devices at most; the others' turn comes a minute later."""
COMMAND_LIFETIME_MS = 3_600_000
MAX_AHEAD = 1 << 12
"""So many assignments of one device a backup may lack."""


def assign(
    session: Session, device: str, family: str, wanted: FamilyAssignment, now_ms: int
) -> int:
    """Make `wanted` the desired state of one family; returns the new number.

    The number is above what is stored *and* above what the device reported, so that a hub which
    was restored from a backup is not refused. A device that lies gets no further than `MAX_AHEAD`
    with each: what came in its place would refuse a number that leaps (agent.trust.admission).
    """
    row = _device(session, device)
    seq = _next(row, now_ms)
    # What is absent now may have been there before.
    values = {"metered_bytes": None, **msgspec.to_builtins(wanted)}
    session.merge(AssignedFamily(device=device, family=family, seq=seq, **values))
    return seq


def unassign(session: Session, device: str, family: str, now_ms: int) -> int:
    """Stop wanting anything of one family: the device keeps what it has. Returns the number."""
    row = _device(session, device)
    found = session.get(AssignedFamily, (device, family))
    if found is not None:
        session.delete(found)
    return _next(row, now_ms)


def message(session: Session, device: Device) -> Assignment:
    """The assignment of one device, as it is signed and published."""
    rows = session.scalars(select(AssignedFamily).where(AssignedFamily.device == device.name))
    return Assignment(
        device=device.name,
        seq=device.assignment_seq,
        issued_at_ms=device.assignment_issued_at_ms,
        expires_at_ms=device.assignment_expires_at_ms,
        families={row.family: _family(row) for row in rows},
    )


def reissue_due(session: Session, now_ms: int) -> int:
    """Give assignments that would soon expire new time. Returns how many.

    The number stays: a new one would make devices try again what they had refused for good.
    """
    due = (
        select(Device.name)
        .where(Device.status == "enrolled", Device.assignment_seq > 0)
        .where(Device.assignment_expires_at_ms < now_ms + REISSUE_MS)
        .limit(REISSUED_AT_ONCE)
    )
    names = list(session.scalars(due))
    if names:
        session.execute(
            update(Device)
            .where(Device.name.in_(names))
            .values(
                assignment_issued_at_ms=now_ms,
                assignment_expires_at_ms=now_ms + LIFETIME_MS,
                published_epoch=None,
            )
        )
    return len(names)


def command(
    session: Session, device: str, verb: Verb, family: str | None, now_ms: int
) -> OutgoingCommand:
    """Ask one device to do something at once; the answer comes back as a Reply."""
    _device(session, device)
    row = OutgoingCommand(
        id=secrets.token_hex(8),
        device=device,
        verb=verb.value,
        family=family,
        issued_at_ms=now_ms,
        expires_at_ms=now_ms + COMMAND_LIFETIME_MS,
    )
    session.add(row)
    return row


def command_message(row: OutgoingCommand) -> Command:
    """The command as it is signed and published."""
    return Command(
        device=row.device,
        id=row.id,
        verb=Verb(row.verb),
        family=row.family,
        issued_at_ms=row.issued_at_ms,
        expires_at_ms=row.expires_at_ms,
    )


def _device(session: Session, name: str) -> Device:
    found = session.get(Device, name)
    if found is None or found.status == "revoked":
        raise DeviceNotFound(f"there is no device named {name!r}")
    return found


def _next(row: Device, now_ms: int) -> int:
    believed = min(row.reported_seq, row.assignment_seq + MAX_AHEAD)
    row.assignment_seq = max(row.assignment_seq, believed) + 1
    row.assignment_issued_at_ms = now_ms
    row.assignment_expires_at_ms = now_ms + LIFETIME_MS
    return row.assignment_seq


def _family(row: AssignedFamily) -> FamilyAssignment:
    names = FamilyAssignment.__struct_fields__
    values = {name: getattr(row, name) for name in names}
    given = {name: value for name, value in values.items() if value is not None}
    return msgspec.convert(given, FamilyAssignment)
