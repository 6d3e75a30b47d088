"""Which versions of signed metadata the fleet has seen, by what devices report of themselves.

Devices refuse what is older. A hub that was restored from a backup learns here how far it had come,
and what was published since. Each device's own State says so, signed by its key; a lying one can
claim any number, so whoever acts on these bounds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.trust import SNAPSHOT, TIMESTAMP
from fleet.storage.schema import Device
from fleet.trust.freshness import believable


@dataclass(frozen=True)
class Seen:
    """What a fleet reports."""

    versions: dict[str, int]
    """Role -> the highest version that can be true."""
    beyond: list[str]
    """Devices that report a higher one of snapshot or timestamp: they lie, or a thief of the online
    keys has run ahead."""


def read_seen(session: Session, now_ms: int) -> Seen:
    """Of all enrolled devices."""
    wanted = select(Device.name, Device.tuf_versions).where(Device.status == "enrolled")
    rows = session.execute(wanted).tuples()
    return summarise(dict(rows.all()), believable(now_ms))


def summarise(reported: Mapping[str, Mapping[str, int]], ceiling: int) -> Seen:
    """Device -> role -> version, summed up. Pure."""
    versions: dict[str, int] = {}
    for stated in reported.values():
        for role, version in stated.items():
            if version <= ceiling:
                versions[role] = max(version, versions.get(role, 0))
    beyond = [
        name
        for name, stated in reported.items()
        if any(stated.get(role, 0) > ceiling for role in (SNAPSHOT, TIMESTAMP))
    ]
    return Seen(versions, sorted(beyond))


def lost(seen: Mapping[str, int], ours: Mapping[str, int]) -> dict[str, int]:
    """What offline keys signed and devices have seen, and this hub does not hold: role -> version
    seen. A hub that was restored from a backup needs it published again. Pure."""
    signed_offline = ours.keys() - {SNAPSHOT, TIMESTAMP}
    return {role: seen[role] for role in sorted(signed_offline) if seen.get(role, 0) > ours[role]}
