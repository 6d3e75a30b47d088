"""Gives devices that joined the fleet the current release of their group.

A newcomer is an enrolled device that is assigned nothing of a family, or that enrolled after the
rollout which set its group's release had begun. It takes part in that rollout, as its last.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from fleet.ports import HubServices
from fleet.releases import find_release
from fleet.rollouts.execution import give
from fleet.rollouts.groups import Ended, current
from fleet.rollouts.loading import OPEN_VALUES, family_state, subject_of
from fleet.rollouts.saving import record
from fleet.rollouts.selectors import parse_selector
from fleet.rollouts.starting import read_manifest, why_unfit
from fleet.rollouts.views import DeviceStatus, Kind, ReleaseRef, Sighting, Status
from fleet.storage.schema import AssignedFamily, Device, Rollout, RolloutDevice

MAX_ENDED = 200
MAX_AT_ONCE = 500


def join_newcomers(hub: HubServices, now_ms: int) -> int:
    """Assign what newcomers lack; returns to how many devices."""
    with hub.storage.reading() as session:
        families = [f for f in _families(session) if _joining(session, f)]
    joined = 0
    for family in families:
        with hub.storage.session() as session:
            found = _joining(session, family)
            for device, rollout in found:
                _join(session, device, session.get_one(Rollout, rollout), now_ms)
            joined += len(found)
    return joined


def _families(session: Session) -> list[str]:
    done = select(Rollout.family).where(Rollout.status == Status.COMPLETED.value)
    return sorted(session.scalars(done.distinct()))


def _joining(session: Session, family: str) -> list[tuple[Device, str]]:
    """Newcomers of one family, each with the rollout that it joins."""
    rollouts = {rollout.id: rollout for rollout in _completed(session, family)}
    ended = [
        Ended(r.id, Kind(r.kind), ReleaseRef(r.target, r.digest), parse_selector(r.selector))
        for r in rollouts.values()
    ]
    found: list[tuple[Device, str]] = []
    for device, owner in _candidates(session, family, list(rollouts.values())):
        group = current(ended, subject_of(device))
        if group is None or owner == group.id or len(found) >= MAX_AT_ONCE:
            continue
        if _lacks(session, device, owner, rollouts[group.id]):
            found.append((device, group.id))
    return found


def _completed(session: Session, family: str) -> list[Rollout]:
    wanted = (
        select(Rollout)
        .where(Rollout.family == family, Rollout.status == Status.COMPLETED.value)
        .order_by(Rollout.created_at_ms.desc(), Rollout.id.desc())
        .limit(MAX_ENDED)
    )
    return list(session.scalars(wanted))


def _candidates(
    session: Session, family: str, newest_first: Sequence[Rollout]
) -> list[tuple[Device, str | None]]:
    """Devices with nothing assigned, or enrolled since the newest completed rollout began."""
    owned = and_(AssignedFamily.device == Device.name, AssignedFamily.family == family)
    since = newest_first[0].created_at_ms
    wanted = (
        select(Device, AssignedFamily.rollout)
        .outerjoin(AssignedFamily, owned)
        .where(Device.status == "enrolled")
        .where(or_(AssignedFamily.device.is_(None), Device.enrolled_at_ms >= since))
        .order_by(Device.name)
    )
    return [(device, owner) for device, owner in session.execute(wanted)]


def _lacks(session: Session, device: Device, owner: str | None, group: Rollout) -> bool:
    """Whether the group's rollout has something to give to the device."""
    if why_unfit(device, release := find_release(session, group.target), read_manifest(release)):
        return False
    if _taken(session, device.name, group.family):
        return False
    row = session.get(RolloutDevice, (group.id, device.name))
    if owner is None:
        # Without a row it is new. With one it was removed and has come back, or its assignment
        # was taken away for good.
        return row is None or (row.assigned_at_ms or 0) < (device.enrolled_at_ms or 0)
    if row is not None:
        return False
    held = session.get(Rollout, owner)
    return held is not None and held.created_at_ms < group.created_at_ms


def _taken(session: Session, device: str, family: str) -> bool:
    """Whether an open rollout of the family has assigned something to the device."""
    wanted = (
        select(RolloutDevice.device)
        .join(Rollout, Rollout.id == RolloutDevice.rollout)
        .where(RolloutDevice.device == device, RolloutDevice.assigned_at_ms.is_not(None))
        .where(Rollout.family == family, Rollout.status.in_(OPEN_VALUES))
    )
    return session.scalar(wanted.limit(1)) is not None


def _join(session: Session, device: Device, rollout: Rollout, now_ms: int) -> None:
    row = session.get(RolloutDevice, (rollout.id, device.name))
    if row is None:
        last = select(func.max(RolloutDevice.position)).where(RolloutDevice.rollout == rollout.id)
        row = RolloutDevice(
            rollout=rollout.id,
            device=device.name,
            position=(session.scalar(last) or 0) + 1,
            wave=rollout.wave,
            evidence={},
        )
        session.add(row)
    row.status, row.detail = DeviceStatus.WAITING.value, ""
    row.outcome = row.cause = row.late_outcome = row.phase = None
    row.finished_at_ms = row.serving_since_ms = None
    row.good_inferences = 0
    seen = Sighting(family=family_state(device.families, rollout.family))
    give(session, rollout, row, seen, now_ms)
    session.flush()
    reason = f"{device.name} joined: it receives {rollout.target}, its group's current release"
    record(session, rollout, "join", reason, {"device": device.name}, now_ms)
