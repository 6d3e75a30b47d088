"""How far one device has come in a rollout: what is stored, brought up to what is seen. Pure.

Success is what the device *serves*: its reported State names this digest, with enough good
inferences and the outcome SUCCEEDED. A claim of success beside another digest is not one. Silence
is TIMED_OUT at the deadline; what comes after that is recorded, and changes nothing.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from contract.deployments import FAILURES, Cause, Evidence, Outcome, Phase
from contract.messages import FamilyState, Result
from fleet.rollouts.views import DeviceStatus as Is
from fleet.rollouts.views import Kind, Progress, RolloutView, Sighting, Spec

RECONNECT_MS = 180_000
"""Devices that lost their broker are back within a minute or so (full jitter), and report then."""
_SETTLED = frozenset({Phase.COMMITTED, Phase.PROBATION})
"""Phases of the *new* assignment in which what serves stays."""


def observe(view: RolloutView, progress: Progress, sighting: Sighting, now_ms: int) -> Progress:
    """`progress` as it is now; the same value when nothing is new."""
    if progress.status is Is.WAITING:
        return _waiting(progress, sighting)
    if progress.status in (Is.ASSIGNED, Is.SERVING):
        return _under_way(view, progress, sighting, now_ms)
    if progress.status is Is.REVERTING:
        return _reverting(view, progress, sighting, now_ms)
    if progress.status is Is.DONE:
        return _done(view, progress, sighting, now_ms)
    return progress


def needed_inferences(spec: Spec) -> int:
    """Good inferences on live traffic; none are asked of a device that may prove by probes."""
    return spec.min_inferences if spec.probation.evidence is Evidence.LIVE else 0


def is_late(view: RolloutView, progress: Progress, now_ms: int) -> bool:
    """Whether the deadline has passed on a device that the hub could have heard.

    Silence while the hub itself was down, or without its broker, is no evidence against a release:
    a device gets time to reconnect and report before it counts.
    """
    if progress.deadline_ms is None or view.hearing_since_ms is None:
        return False
    assigned_ms = progress.deadline_ms - view.spec.deadline_s * 1_000
    if view.hearing_since_ms <= assigned_ms:
        return now_ms >= progress.deadline_ms
    return now_ms >= max(progress.deadline_ms, view.hearing_since_ms + RECONNECT_MS)


def _waiting(progress: Progress, sighting: Sighting) -> Progress:
    if not sighting.revoked:
        return progress
    return replace(progress, status=Is.SKIPPED, detail="the device was removed from the fleet")


def _under_way(view: RolloutView, progress: Progress, seen: Sighting, now_ms: int) -> Progress:
    lost = _lost(view, seen)
    if lost:
        return _end(progress, Outcome.SUPERSEDED, None, lost, now_ms)
    now = _reported(view, progress, seen, now_ms)
    result = _result(view, progress, seen.family)
    if result is not None:
        ended = _judged(view, now, seen, result, now_ms)
        if ended is not None:
            return ended
    if is_late(view, progress, now_ms):
        why = _why_late(view, progress, seen, result)
        return _end(now, Outcome.TIMED_OUT, Cause.DEADLINE, why, now_ms)
    return now


def _judged(
    view: RolloutView, progress: Progress, seen: Sighting, result: Result, now_ms: int
) -> Progress | None:
    """The end that a terminal result means, if it means one."""
    if result.outcome in FAILURES or result.outcome is Outcome.SUPERSEDED:
        return _end(progress, result.outcome, result.cause, result.detail, now_ms)
    if not _serves(view, seen):
        return None
    if result.outcome is Outcome.UNPROVEN:
        return _end(progress, result.outcome, result.cause, result.detail, now_ms)
    if progress.good_inferences >= needed_inferences(view.spec):
        return _end(progress, Outcome.SUCCEEDED, None, "", now_ms)
    return None


def _reported(view: RolloutView, progress: Progress, seen: Sighting, now_ms: int) -> Progress:
    """Phase, and whether it serves the digest. A State from before the assignment says nothing."""
    family = seen.family
    if family is None or not _heard(progress, seen):
        return progress
    now = _waits(replace(progress, phase=family.phase.value), family)
    if family.serving != view.release.digest:
        return replace(now, status=Is.ASSIGNED, serving_since_ms=None)
    since = progress.serving_since_ms
    return replace(
        now,
        status=Is.SERVING,
        serving_since_ms=now_ms if since is None else since,
        good_inferences=family.good_inferences,
    )


def _waits(progress: Progress, family: FamilyState) -> Progress:
    """What a fetch under way waits for; gone once it does so no more. An end has its own cause."""
    if progress.outcome is not None:
        return progress
    if isinstance(family.waits, msgspec.UnsetType):
        return replace(progress, cause=None, detail="")
    return replace(progress, cause=family.waits.cause, detail=family.waits.detail)


def _reverting(view: RolloutView, progress: Progress, seen: Sighting, now_ms: int) -> Progress:
    lost = _lost(view, seen)
    if lost:
        ended = progress.outcome or Outcome.SUPERSEDED
        return _end(progress, ended, progress.cause, lost, now_ms)
    family, back = seen.family, progress.previous
    if family is None or back is None or not _heard(progress, seen):
        return progress
    now = replace(progress, phase=family.phase.value)
    last = family.last
    told = last is not None and last.digest == back.digest and last.seq >= progress.assigned_seq
    if last is not None and told and last.outcome in FAILURES:
        detail = f"could not go back to {back.target}: {last.detail}"
        return replace(now, cause=last.cause, detail=detail)
    if family.serving == back.digest and (told or family.phase in _SETTLED):
        outcome = Outcome.SUCCEEDED if view.kind is Kind.ROLLBACK else progress.outcome
        return replace(now, status=Is.REVERTED, outcome=outcome, finished_at_ms=now_ms)
    return now


def _done(view: RolloutView, progress: Progress, seen: Sighting, now_ms: int) -> Progress:
    if _lost(view, seen):
        late = progress.outcome is Outcome.TIMED_OUT and progress.late_outcome is None
        return replace(progress, late_outcome=Outcome.SUPERSEDED) if late else progress
    result = _result(view, progress, seen.family)
    if progress.outcome is Outcome.TIMED_OUT:
        return _late(view, progress, seen, result)
    if progress.outcome is Outcome.UNPROVEN and result is not None:
        if result.outcome is Outcome.UNPROVEN:
            return progress
        reported = _reported(view, progress, seen, now_ms)
        return _judged(view, reported, seen, result, now_ms) or progress
    if progress.outcome is Outcome.SUCCEEDED:
        return _still_succeeded(view, progress, seen, result, now_ms)
    return progress


def _late(view: RolloutView, progress: Progress, seen: Sighting, result: Result | None) -> Progress:
    if result is None or progress.late_outcome is not None:
        return progress
    if result.outcome is Outcome.SUCCEEDED and not _serves(view, seen):
        return progress
    return replace(progress, late_outcome=result.outcome)


def _still_succeeded(
    view: RolloutView, progress: Progress, seen: Sighting, result: Result | None, now_ms: int
) -> Progress:
    """A device that succeeded and went back afterwards has not succeeded."""
    if seen.family is None or not _heard(progress, seen) or _serves(view, seen):
        return progress
    if result is not None and result.outcome in FAILURES:
        return _end(progress, result.outcome, result.cause, result.detail, now_ms)
    serves = seen.family.target or "nothing"
    detail = f"it had succeeded, and serves {serves} now"
    return _end(progress, Outcome.ROLLED_BACK, Cause.INTERNAL, detail, now_ms)


def _end(
    progress: Progress, outcome: Outcome, cause: Cause | None, detail: str, now_ms: int
) -> Progress:
    return replace(
        progress,
        status=Is.DONE,
        outcome=outcome,
        cause=cause,
        detail=detail,
        finished_at_ms=now_ms,
    )


def _lost(view: RolloutView, seen: Sighting) -> str:
    """Why the device is no longer this rollout's, or nothing."""
    if seen.revoked:
        return "the device was removed from the fleet"
    if seen.owner == view.id:
        return ""
    if seen.owner is None:
        return "nothing is assigned to the device any more"
    return f"rollout {seen.owner} has assigned something else since"


def _heard(progress: Progress, seen: Sighting) -> bool:
    return seen.reported_seq >= progress.assigned_seq


def _serves(view: RolloutView, seen: Sighting) -> bool:
    return seen.family is not None and seen.family.serving == view.release.digest


def _result(view: RolloutView, progress: Progress, family: FamilyState | None) -> Result | None:
    """The device's terminal result for this assignment; older ones belong to older assignments."""
    if family is None or family.last is None:
        return None
    last = family.last
    if last.digest != view.release.digest or last.seq < progress.assigned_seq:
        return None
    return last


def _why_late(view: RolloutView, progress: Progress, seen: Sighting, result: Result | None) -> str:
    if not _heard(progress, seen) or seen.family is None:
        return "silent: it has not reported this assignment"
    if result is not None and not _serves(view, seen):
        return f"reports {result.outcome.value}, but serves {seen.family.target or 'nothing'}"
    if _serves(view, seen):
        needed = needed_inferences(view.spec)
        good = seen.family.good_inferences
        return f"serves it in phase {seen.family.phase.value}, with {good} of {needed} inferences"
    waits = seen.family.waits
    if isinstance(waits, msgspec.UnsetType):
        return f"still in phase {seen.family.phase.value}"
    said = f"still in phase {seen.family.phase.value}, waiting because of {waits.cause.value}"
    return f"{said}: {waits.detail}" if waits.detail else said
