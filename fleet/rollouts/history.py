"""What a device had before: the release to which it goes back. Reads only.

First what it reports to serve; else what earlier rollouts proved on it. A release that was rolled
back since is not gone back to.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.deployments import Outcome
from contract.messages import FamilyState
from fleet.rollouts.views import DeviceStatus, Kind, ReleaseRef
from fleet.storage.schema import Release, Rollout, RolloutDevice

MAX_ROLLOUTS = 50
"""So far back at most."""


def previous_release(
    session: Session, device: str, family: str, digest: str, seen: FamilyState | None
) -> ReleaseRef | None:
    """What `device` should go back to from the release `digest`; None when there is nothing."""
    if seen is not None and seen.serving is not None and seen.serving != digest:
        target = session.scalar(select(Release.target).where(Release.digest == seen.serving))
        if target is not None:
            return ReleaseRef(target, seen.serving)
    return _proven_before(session, device, family, digest)


def _proven_before(session: Session, device: str, family: str, digest: str) -> ReleaseRef | None:
    left = {digest}
    for rollout, row in _newest_first(session, device, family):
        if rollout.kind == Kind.ROLLBACK.value:
            left.add(rollout.digest)
        elif rollout.digest == digest:
            if row.previous_target and row.previous_digest and row.previous_digest not in left:
                return ReleaseRef(row.previous_target, row.previous_digest)
        elif rollout.digest not in left and _proved(row):
            return ReleaseRef(rollout.target, rollout.digest)
    return None


def _newest_first(
    session: Session, device: str, family: str
) -> list[tuple[Rollout, RolloutDevice]]:
    wanted = (
        select(Rollout, RolloutDevice)
        .join(RolloutDevice, RolloutDevice.rollout == Rollout.id)
        .where(RolloutDevice.device == device, Rollout.family == family)
        .where(RolloutDevice.assigned_at_ms.is_not(None))
        .order_by(RolloutDevice.assigned_at_ms.desc(), Rollout.created_at_ms.desc())
        .limit(MAX_ROLLOUTS)
    )
    return [(rollout, row) for rollout, row in session.execute(wanted)]


def _proved(row: RolloutDevice) -> bool:
    succeeded = Outcome.SUCCEEDED.value
    return row.status == DeviceStatus.DONE.value and succeeded in (row.outcome, row.late_outcome)
