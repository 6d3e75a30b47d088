"""Asks devices for their next certificate before it is due: while the hub goes to another CA.

A few at a time, and only those that are there and know the root of the CA that issues now: the
others would refuse what they get. A device that was asked and did not come is asked again.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.messages import Verb
from contract.trust import TARGETS
from fleet.assignments import command
from fleet.rotation import Rotation
from fleet.storage.schema import Device, OutgoingCommand
from fleet.succession import newest_issuers

BATCH = 25
EVERY_MS = 5_000
"""Together half of what the hub's limit on renewals lets in."""
ALIVE_HEARTBEATS = 2.5


def call_for_renewal(session: Session, rotation: Rotation, issuer: str, now_ms: int) -> list[str]:
    """Write the commands, in the caller's transaction; returns whom."""
    waiting = {name for name, by in newest_issuers(session).items() if by != issuer}
    if not waiting or rotation.named is None:
        return []
    called = _called(session, now_ms)
    present = session.execute(
        select(Device.name, Device.last_seen_ms, Device.heartbeat_s, Device.tuf_versions)
        .where(Device.status == "enrolled")
        .order_by(Device.name)
    )
    names = [
        name
        for name, seen_ms, heartbeat_s, versions in present
        if name in waiting - called
        and versions.get(TARGETS, 0) >= rotation.named
        and seen_ms is not None
        and now_ms - seen_ms < ALIVE_HEARTBEATS * 1_000 * heartbeat_s
    ][:BATCH]
    for name in names:
        command(session, name, Verb.RENEW, None, now_ms)
    return names


def _called(session: Session, now_ms: int) -> set[str]:
    """Who has a call that has not run out."""
    rows = session.scalars(
        select(OutgoingCommand.device)
        .where(OutgoingCommand.verb == Verb.RENEW.value)
        .where(OutgoingCommand.expires_at_ms > now_ms)
    )
    return set(rows)
