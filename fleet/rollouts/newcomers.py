"""Gives devices that joined the fleet the current release of their group.

A newcomer is an enrolled device that is assigned nothing of a family, or that enrolled after the
rollout which set its group's release had begun. It takes part in that rollout, as its last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from contract.manifest import Manifest
from fleet.ports import HubServices
from fleet.releases import find_release
from fleet.rollouts.execution import give
from fleet.rollouts.groups import Ended, current
from fleet.rollouts.loading import OPEN_VALUES, family_state
from fleet.rollouts.saving import record
from fleet.rollouts.selectors import Subject, parse_selector
from fleet.rollouts.starting import read_manifest, why_unfit
from fleet.rollouts.views import DeviceStatus, Kind, ReleaseRef, Sighting, Status
from fleet.storage.schema import AssignedFamily, Device, Release, Rollout, RolloutDevice

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
                device_row = session.get_one(Device, device)
                _join(session, device_row, session.get_one(Rollout, rollout), now_ms)
            joined += len(found)
    return joined


def _families(session: Session) -> list[str]:
    done = select(Rollout.family).where(Rollout.status == Status.COMPLETED.value)
    return sorted(session.scalars(done.distinct()))


def _joining(session: Session, family: str) -> list[tuple[str, str]]:
    """Newcomers of one family by name, each with the rollout that it joins."""
    ended = _ended(session, family)
    groups: dict[str, _Group] = {}
    found: list[tuple[str, str]] = []
    for name, owner, subject in _candidates(session, family):
        group = current(ended, subject)
        if group is None or owner == group.id:
            continue
        if group.id not in groups:
            groups[group.id] = _group(session, group.id)
        if _lacks(session, name, owner, groups[group.id]):
            found.append((name, group.id))
        if len(found) >= MAX_AT_ONCE:
            break
    return found


@dataclass(frozen=True)
class _Group:
    """What a group's rollout gives, read once for all its newcomers."""

    rollout: Rollout
    release: Release
    manifest: Manifest


def _group(session: Session, rollout: str) -> _Group:
    row = session.get_one(Rollout, rollout)
    release = find_release(session, row.target)
    return _Group(row, release, read_manifest(release))


def _ended(session: Session, family: str) -> list[Ended]:
    """Newest first. A rollback counts from its start: nobody may join what is being left."""
    going_back = and_(Rollout.kind == Kind.ROLLBACK.value, Rollout.status == Status.REVERTING.value)
    wanted = (
        select(Rollout.id, Rollout.kind, Rollout.target, Rollout.digest, Rollout.selector)
        .where(Rollout.family == family)
        .where(or_(Rollout.status == Status.COMPLETED.value, going_back))
        .order_by(Rollout.created_at_ms.desc(), Rollout.id.desc())
        .limit(MAX_ENDED)
    )
    return [
        Ended(rollout, Kind(kind), ReleaseRef(target, digest), parse_selector(selector))
        for rollout, kind, target, digest, selector in session.execute(wanted)
    ]


def _candidates(session: Session, family: str) -> Iterator[tuple[str, str | None, Subject]]:
    """Devices with nothing assigned, or enrolled since the newest completed rollout began."""
    owned = and_(AssignedFamily.device == Device.name, AssignedFamily.family == family)
    newest = select(func.max(Rollout.created_at_ms)).where(
        Rollout.family == family, Rollout.status == Status.COMPLETED.value
    )
    since = session.scalar(newest) or 0
    wanted = (
        select(Device.name, AssignedFamily.rollout, Device.device_class, Device.labels)
        .outerjoin(AssignedFamily, owned)
        .where(Device.status == "enrolled")
        .where(or_(AssignedFamily.device.is_(None), Device.enrolled_at_ms >= since))
        .order_by(Device.name)
    )
    for name, owner, device_class, labels in session.execute(wanted).all():
        yield name, owner, Subject(name, device_class, labels)


def _lacks(session: Session, name: str, owner: str | None, group: _Group) -> bool:
    """Whether the group's rollout has something to give to the device."""
    device = session.get_one(Device, name)
    if why_unfit(device, group.release, group.manifest):
        return False
    if _taken(session, name, group.rollout.family):
        return False
    row = session.get(RolloutDevice, (group.rollout.id, name))
    if owner is None:
        # Without a row it is new. With one it was removed and has come back, or its assignment
        # was taken away for good.
        return row is None or (row.assigned_at_ms or 0) < (device.enrolled_at_ms or 0)
    if row is not None:
        return False
    held = session.get(Rollout, owner)
    return held is not None and held.created_at_ms < group.rollout.created_at_ms


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
