"""Asks devices for their next certificate before it is due: while the hub goes to another CA.

A few at a time, and only those that are there and know the root of the CA that issues now: the
others would refuse what they get. A device that was asked and did not come is asked again. The
whole fleet is looked through without holding up who writes.
"""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.messages import Verb
from contract.trust import TARGETS
from fleet.assignments import command
from fleet.errors import DeviceNotFound
from fleet.rotation import Rotation, next_issues
from fleet.storage.database import Storage
from fleet.storage.schema import Device, OutgoingCommand
from fleet.succession import newest_issuers

BATCH = 25
EVERY_MS = 5_000
"""Together half of what the hub's limit on renewals lets in."""
ALIVE_HEARTBEATS = 2.5


def call_for_renewal(storage: Storage, rotation: Rotation, issuer: str, now_ms: int) -> list[str]:
    """Write the commands; returns whom."""
    with storage.reading() as session:
        names = _to_call(session, rotation, issuer, now_ms)
    if names:
        with storage.session() as session:
            for name in names:
                with suppress(DeviceNotFound):  # it was removed just now
                    command(session, name, Verb.RENEW, None, now_ms)
    return names


def _to_call(session: Session, rotation: Rotation, issuer: str, now_ms: int) -> list[str]:
    # The former CA's root, to which `--undo` leads back, every device knows; and once it was taken
    # back, policy/ca need not name the next one any more.
    since = rotation.named if next_issues(rotation.stage) else 0
    waiting = {name for name, by in newest_issuers(session).items() if by != issuer}
    if not waiting or since is None:
        return []
    waiting -= _called(session, now_ms)
    present = session.execute(
        select(Device.name, Device.last_seen_ms, Device.heartbeat_s, Device.tuf_versions)
        .where(Device.status == "enrolled")
        .order_by(Device.name)
    )
    return [
        name
        for name, seen_ms, heartbeat_s, versions in present
        if name in waiting
        and versions.get(TARGETS, 0) >= since
        and seen_ms is not None
        and now_ms - seen_ms < ALIVE_HEARTBEATS * 1_000 * heartbeat_s
    ][:BATCH]


def _called(session: Session, now_ms: int) -> set[str]:
    """Who has a call that has not run out."""
    rows = session.scalars(
        select(OutgoingCommand.device)
        .where(OutgoingCommand.verb == Verb.RENEW.value)
        .where(OutgoingCommand.expires_at_ms > now_ms)
    )
    return set(rows)
