"""Writes what was decided on a rollout: progress, decisions, the end. Commits nothing itself."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from fleet.rollouts.views import DeviceStatus, Progress, Status
from fleet.storage.schema import Decision, Rollout, RolloutDevice

_PLAIN = (
    "assigned_seq",
    "assigned_at_ms",
    "deadline_ms",
    "serving_since_ms",
    "good_inferences",
    "phase",
    "detail",
    "finished_at_ms",
)


def save_progress(row: RolloutDevice, progress: Progress) -> None:
    """Bring one row up to date; its place in the cohort never changes."""
    row.status = progress.status.value
    for name in _PLAIN:
        setattr(row, name, getattr(progress, name))
    row.outcome = progress.outcome.value if progress.outcome else None
    row.cause = progress.cause.value if progress.cause else None
    row.late_outcome = progress.late_outcome.value if progress.late_outcome else None


def record(
    session: Session,
    rollout: Rollout,
    action: str,
    reason: str,
    evidence: dict[str, Any],
    now_ms: int,
) -> None:
    """Store one decision, with the evidence that it was reached on."""
    rollout.updated_at_ms = now_ms
    session.add(
        Decision(
            rollout=rollout.id,
            at_ms=now_ms,
            wave=rollout.wave,
            action=action,
            reason=reason,
            evidence=evidence,
        )
    )


def finish(session: Session, rollout: Rollout, status: Status, reason: str, now_ms: int) -> None:
    """End a rollout; devices that it never reached are skipped, and stay as they are."""
    rollout.status = status.value
    rollout.reason = reason
    rollout.finished_at_ms = rollout.updated_at_ms = now_ms
    waiting = update(RolloutDevice).where(
        RolloutDevice.rollout == rollout.id, RolloutDevice.status == DeviceStatus.WAITING.value
    )
    session.execute(waiting.values(status=DeviceStatus.SKIPPED.value))
