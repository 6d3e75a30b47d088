"""Reads rollouts from the database into the planner's frozen views. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from contract.deployments import Cause, Outcome
from contract.messages import FamilyState, Hardware
from fleet.rollouts.errors import RolloutNotFound
from fleet.rollouts.selectors import Subject
from fleet.rollouts.traffic import Traffic
from fleet.rollouts.views import (
    OPEN,
    DeviceStatus,
    DeviceView,
    Kind,
    Progress,
    ReleaseRef,
    RolloutView,
    Sighting,
    Spec,
    Status,
)
from fleet.storage.schema import AssignedFamily, Device, Rollout, RolloutDevice

OPEN_VALUES = [status.value for status in OPEN]
_UNSETTLED = [
    s.value for s in (DeviceStatus.ASSIGNED, DeviceStatus.SERVING, DeviceStatus.REVERTING)
]


def find_rollout(session: Session, rollout: str) -> Rollout:
    """Raises `RolloutNotFound`."""
    found = session.get(Rollout, rollout) if len(rollout) <= 63 else None
    if found is None:
        raise RolloutNotFound(f"there is no rollout {rollout[:63]!r}")
    return found


def open_rollouts(session: Session, family: str | None = None) -> list[Rollout]:
    """Oldest first."""
    wanted = select(Rollout).where(Rollout.status.in_(OPEN_VALUES))
    if family is not None:
        wanted = wanted.where(Rollout.family == family)
    return list(session.scalars(wanted.order_by(Rollout.created_at_ms, Rollout.id)))


def unsettled_rollouts(session: Session) -> list[str]:
    """Rollouts that are over, with devices of which something may still come."""
    wanted = (
        select(RolloutDevice.rollout)
        .join(Rollout, Rollout.id == RolloutDevice.rollout)
        .where(Rollout.status.not_in(OPEN_VALUES), _unsettled())
        .distinct()
    )
    return sorted(session.scalars(wanted))


def load_view(
    session: Session,
    rollout: Rollout,
    counted: bool = True,
    hearing_since_ms: int | None = 0,
) -> RolloutView:
    """The rollout with its devices by position; of one that is over, the unsettled ones alone."""
    return RolloutView(
        id=rollout.id,
        kind=Kind(rollout.kind),
        family=rollout.family,
        release=ReleaseRef(rollout.target, rollout.digest),
        spec=spec_of(rollout),
        status=Status(rollout.status),
        wave=rollout.wave,
        devices=tuple(_devices(session, rollout)),
        reports_counted=counted,
        hearing_since_ms=hearing_since_ms,
    )


def spec_of(rollout: Rollout) -> Spec:
    """What was asked of a rollout."""
    return msgspec.convert(rollout.spec, Spec)


def progress_of(row: RolloutDevice) -> Progress:
    """The stored progress of one device."""
    previous = None
    if row.previous_target is not None and row.previous_digest is not None:
        previous = ReleaseRef(row.previous_target, row.previous_digest)
    return Progress(
        device=row.device,
        position=row.position,
        wave=row.wave,
        status=DeviceStatus(row.status),
        previous=previous,
        assigned_seq=row.assigned_seq or 0,
        assigned_at_ms=row.assigned_at_ms,
        deadline_ms=row.deadline_ms,
        serving_since_ms=row.serving_since_ms,
        good_inferences=row.good_inferences,
        phase=row.phase,
        outcome=Outcome(row.outcome) if row.outcome else None,
        cause=Cause(row.cause) if row.cause else None,
        detail=row.detail,
        finished_at_ms=row.finished_at_ms,
        late_outcome=Outcome(row.late_outcome) if row.late_outcome else None,
    )


def rows_of(session: Session, rollout: str) -> list[RolloutDevice]:
    """Every device of a rollout, by position."""
    wanted = select(RolloutDevice).where(RolloutDevice.rollout == rollout)
    return list(session.scalars(wanted.order_by(RolloutDevice.position)))


def family_state(families: Mapping[str, Any], family: str) -> FamilyState | None:
    """One family of a device's last State; what no longer reads is taken for unknown."""
    try:
        return msgspec.convert(families[family], FamilyState)
    except (KeyError, msgspec.ValidationError):
        return None


def hardware_of(device: Device) -> Hardware | None:
    """None before the first birth."""
    try:
        return msgspec.convert(device.hardware, Hardware) if device.hardware else None
    except msgspec.ValidationError:
        return None


def subject_of(device: Device) -> Subject:
    """The device as selectors see it."""
    return Subject(device.name, device.device_class, device.labels)


def _devices(session: Session, rollout: Rollout) -> list[DeviceView]:
    owned = and_(
        AssignedFamily.device == RolloutDevice.device, AssignedFamily.family == rollout.family
    )
    wanted = (
        select(
            RolloutDevice,
            Device.status,
            Device.reported_seq,
            Device.families,
            Device.last_seen_ms,
            AssignedFamily.rollout,
        )
        .join(Device, Device.name == RolloutDevice.device)
        .outerjoin(AssignedFamily, owned)
        .where(RolloutDevice.rollout == rollout.id)
        .order_by(RolloutDevice.position)
    )
    if Status(rollout.status) not in OPEN:
        wanted = wanted.where(_unsettled())
    return [
        DeviceView(
            progress=progress_of(row),
            sighting=Sighting(
                reported_seq=reported_seq,
                family=family_state(families, rollout.family),
                owner=owner,
                revoked=status == "revoked",
                last_seen_ms=last_seen_ms,
            ),
            traffic=msgspec.convert(row.evidence, Traffic),
        )
        for row, status, reported_seq, families, last_seen_ms, owner in session.execute(wanted)
    ]


def _unsettled() -> ColumnElement[bool]:
    late = and_(
        RolloutDevice.status == DeviceStatus.DONE.value,
        RolloutDevice.outcome == Outcome.TIMED_OUT.value,
        RolloutDevice.late_outcome.is_(None),
    )
    return or_(RolloutDevice.status.in_(_UNSETTLED), late)
