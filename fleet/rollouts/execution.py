"""Carries out the planner's decisions in the caller's transaction: assigns, gives back, ends.

A decision, its assignments and its record are committed together or not at all; so a hub that is
killed between any two steps repeats none of them and leaves none out.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace
from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.deployments import Evidence, Outcome
from contract.messages import FamilyAssignment, ProbationPolicy
from fleet.assignments import assign, unassign
from fleet.rollouts import planner as do
from fleet.rollouts.history import previous_release
from fleet.rollouts.loading import progress_of, spec_of
from fleet.rollouts.saving import finish, record, save_progress
from fleet.rollouts.views import UNDER_WAY, DeviceStatus, Kind, RolloutView, Sighting, Status
from fleet.storage.schema import Rollout, RolloutDevice, StoredEvent

ACTIONS: Mapping[type[do.Decision], str] = {
    do.DeviceFailed: "device-failed",
    do.Advance: "advance",
    do.Assign: "assign",
    do.Complete: "complete",
    do.Pause: "pause",
    do.Revert: "revert",
    do.Restored: "restored",
}


def execute(
    session: Session,
    rollout: Rollout,
    rows: Mapping[str, RolloutDevice],
    view: RolloutView,
    decision: do.Decision,
    now_ms: int,
) -> None:
    """Carry out one decision and store it."""
    evidence = dict(decision.evidence)
    seen = {d.progress.device: d.sighting for d in view.devices}
    if isinstance(decision, do.DeviceFailed):
        evidence["figures"] = figures_of(session, rows[decision.device])
    elif isinstance(decision, do.Advance):
        rollout.wave, rollout.wave_started_at_ms = decision.wave, now_ms
    elif isinstance(decision, do.Assign):
        rollout.wave_started_at_ms = rollout.wave_started_at_ms or now_ms
        for device in decision.devices:
            give(session, rollout, rows[device], seen[device], now_ms)
    elif isinstance(decision, do.Revert):
        rollout.status, rollout.reason = Status.REVERTING.value, decision.reason
        for device in decision.devices:
            give_back(session, rollout, rows[device], now_ms)
    elif isinstance(decision, do.Pause):
        rollout.status, rollout.reason = Status.PAUSED.value, decision.reason
    elif isinstance(decision, (do.Complete, do.Restored)):
        evidence["restored_s"] = (now_ms - rollout.created_at_ms) / 1_000
        _end(session, rollout, decision, now_ms)
    record(session, rollout, ACTIONS[type(decision)], decision.reason, evidence, now_ms)


def give(
    session: Session, rollout: Rollout, row: RolloutDevice, seen: Sighting, now_ms: int
) -> None:
    """Assign the release to one device, and note what it had before."""
    spec = spec_of(rollout)
    previous = previous_release(session, row.device, rollout.family, rollout.digest, seen.family)
    if previous is not None:
        row.previous_target, row.previous_digest = previous.target, previous.digest
    deadline_ms = now_ms + spec.deadline_s * 1_000
    wanted = FamilyAssignment(
        target=rollout.target,
        digest=rollout.digest,
        rollout=rollout.id,
        deadline_ms=deadline_ms,
        probation=spec.probation,
        metered_bytes=spec.metered_bytes or msgspec.UNSET,
    )
    row.assigned_seq = assign(session, row.device, rollout.family, wanted, now_ms)
    row.assigned_at_ms, row.deadline_ms = now_ms, deadline_ms
    row.status = DeviceStatus.ASSIGNED.value


def give_back(session: Session, rollout: Rollout, row: RolloutDevice, now_ms: int) -> None:
    """Assign the previous release; without one, nothing: the device keeps what it has."""
    progress = progress_of(row)
    if progress.previous is None:
        unassign(session, row.device, rollout.family, now_ms)
        detail = f"{progress.detail}; " if progress.detail else ""
        kept = replace(progress, detail=f"{detail}there was no release before, to go back to")
        if progress.status in UNDER_WAY:
            kept = replace(kept, outcome=Outcome.SUPERSEDED, finished_at_ms=now_ms)
        save_progress(row, replace(kept, status=DeviceStatus.DONE))
        return
    wanted = FamilyAssignment(
        target=progress.previous.target,
        digest=progress.previous.digest,
        rollout=rollout.id,
        # It was proven before, on this very device: it need not wait for traffic to be so again.
        probation=ProbationPolicy(evidence=Evidence.PROBE),
    )
    row.assigned_seq = assign(session, row.device, rollout.family, wanted, now_ms)
    row.deadline_ms = now_ms + spec_of(rollout).deadline_s * 1_000
    row.status = DeviceStatus.REVERTING.value
    if rollout.kind == Kind.ROLLBACK.value:
        row.assigned_at_ms = now_ms


def _end(session: Session, rollout: Rollout, decision: do.Decision, now_ms: int) -> None:
    reverted = isinstance(decision, do.Restored) and rollout.kind == Kind.ROLLOUT.value
    reason = f"{rollout.reason}; {decision.reason}" if reverted else decision.reason
    status = Status.REVERTED if reverted else Status.COMPLETED
    finish(session, rollout, status, reason, now_ms)


def figures_of(session: Session, row: RolloutDevice) -> dict[str, float]:
    """What the device measured, as its last terminal event says; none of an older assignment, which
    came from a rollout of the same name when the hub was restored from a backup since."""
    wanted = (
        select(StoredEvent.figures)
        .where(StoredEvent.rollout == row.rollout, StoredEvent.device == row.device)
        .where(StoredEvent.assignment_seq >= (row.assigned_seq or 0))
        .where(StoredEvent.outcome.is_not(None))
        .order_by(StoredEvent.id.desc())
        .limit(1)
    )
    return dict(session.scalar(wanted) or {})
