"""The gate of one wave: does what was seen allow the next one? Pure.

WAIT until enough of the wave's devices have succeeded and for as long as they soak; FAIL as soon as
too many failed or the canaries' traffic breaks a limit; STUCK when nothing more can come and it is
still not enough. What an operator accepted by resuming is left out of the reckoning.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from contract.deployments import FAILURES, Outcome
from fleet.rollouts.comparison import Comparison, compare
from fleet.rollouts.thresholds import Threshold, parse_threshold
from fleet.rollouts.views import (
    UNDER_WAY,
    UNTOUCHED,
    DeviceStatus,
    DeviceView,
    Progress,
    RolloutView,
    Status,
)
from fleet.rollouts.words import counted

MAX_NAMED = 20
"""Devices that evidence names one by one; the rest are counted."""


class Verdict(enum.Enum):
    """What a gate says."""

    WAIT = "wait"
    PASS = "pass"  # noqa: S105 - a gate's verdict, no password
    FAIL = "fail"
    STUCK = "stuck"


@dataclass(frozen=True)
class Gate:
    """A verdict, its reason in one line, and what it was reached on."""

    verdict: Verdict
    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Tally:
    """One wave, or all devices reached, counted."""

    reached: int
    succeeded: tuple[Progress, ...]
    failed: tuple[Progress, ...]
    unproven: int
    pending: int
    superseded: int


def judge(view: RolloutView, now_ms: int) -> Gate:
    """The gate of the wave under way."""
    spec, threshold = view.spec, parse_threshold(view.spec.abort_if)
    wave = tally(view, [d for d in view.devices if d.progress.wave == view.wave])
    reached = tally(view, view.devices)
    comparison = compare(view.devices, spec.probation)
    needed = _needed(wave, threshold)
    verdict, reason = _verdict(view, now_ms, threshold, wave, reached, needed, comparison)
    return Gate(verdict, reason, _evidence(view, wave, reached, needed, comparison, threshold))


def tally(view: RolloutView, devices: Sequence[DeviceView]) -> Tally:
    """Count over outcomes; the superseded and the accepted failures are in no denominator."""
    accepted = set(view.spec.accepted.devices)
    found = [d.progress for d in devices if d.progress.status not in UNTOUCHED]
    counted = [p for p in found if not (p.outcome in FAILURES and p.device in accepted)]
    succeeding = {Outcome.SUCCEEDED}
    if view.spec.accept_unproven:
        succeeding.add(Outcome.UNPROVEN)
    superseded = sum(p.outcome is Outcome.SUPERSEDED for p in counted)
    return Tally(
        reached=len(counted) - superseded,
        succeeded=tuple(p for p in counted if _is_done(p) and p.outcome in succeeding),
        failed=tuple(p for p in counted if p.outcome in FAILURES),
        unproven=sum(p.outcome is Outcome.UNPROVEN for p in counted),
        pending=sum(p.status in UNDER_WAY for p in counted),
        superseded=superseded,
    )


def soak_ends_ms(view: RolloutView, now_ms: int) -> int | None:
    """Until when the wave under way soaks; None when it does not."""
    if view.status is not Status.RUNNING:
        return None
    wave = tally(view, [d for d in view.devices if d.progress.wave == view.wave])
    needed = _needed(wave, parse_threshold(view.spec.abort_if))
    if not needed or len(wave.succeeded) < needed:
        return None
    ends_ms = _soak_ends(view, wave, needed)
    return ends_ms if ends_ms > now_ms else None


def _verdict(
    view: RolloutView,
    now_ms: int,
    threshold: Threshold,
    wave: Tally,
    reached: Tally,
    needed: int,
    comparison: Comparison,
) -> tuple[Verdict, str]:
    failure = _failure(view, threshold, wave, reached, comparison)
    if failure:
        return Verdict.FAIL, failure
    if _proves_nothing(view, wave, reached):
        return Verdict.STUCK, (
            "every device of this wave was removed or assigned something else, so nothing is"
            " proven: abort this rollout, and start another"
        )
    if len(wave.succeeded) < needed:
        return _not_enough(wave, needed)
    waits = _waits(view, now_ms, wave, needed)
    if waits:
        return Verdict.WAIT, waits
    return Verdict.PASS, f"{len(wave.succeeded)} of {counted(wave.reached, 'device')} succeeded"


def _proves_nothing(view: RolloutView, wave: Tally, reached: Tally) -> bool:
    """Whether nobody is left in the wave, and no operator has taken note of why.

    A wave whose devices were all removed before it began says nothing; after one that passed it may
    be passed over, but it is no canary.
    """
    members = {d.progress.device for d in view.devices if d.progress.wave == view.wave}
    if wave.reached or members.intersection(view.spec.accepted.devices):
        return False
    return bool(wave.superseded) or not reached.succeeded


def _failure(
    view: RolloutView, threshold: Threshold, wave: Tally, reached: Tally, comparison: Comparison
) -> str:
    """Why the gate fails, or nothing. A large early wave must not thin a later one's failures."""
    for part, name in ((wave, "this wave"), (reached, "the devices reached")):
        if threshold.exceeded(len(part.failed), part.reached):
            named = ", ".join(told(p) for p in part.failed[:3])
            return (
                f"{len(part.failed)} of {part.reached} of {name} failed ({threshold.text}): {named}"
            )
    failing = comparison.failing(view.spec.accepted.checks)
    if failing:
        return f"{'; '.join(check.words for check in failing)} ({comparison.words})"
    return ""


def _not_enough(wave: Tally, needed: int) -> tuple[Verdict, str]:
    have = f"{len(wave.succeeded)} of {needed} needed successes"
    if wave.pending:
        return Verdict.WAIT, f"{have}; {wave.pending} under way"
    return Verdict.STUCK, (
        f"{have}, and none is under way: {wave.unproven} unproven for lack of live traffic,"
        f" {len(wave.failed)} failed"
    )


def _waits(view: RolloutView, now_ms: int, wave: Tally, needed: int) -> str:
    """What a wave with enough successes still waits for, or nothing."""
    left_s = (_soak_ends(view, wave, needed) - now_ms) / 1_000
    if needed and left_s > 0:
        return f"soaking for another {left_s:.0f} s"
    if not view.reports_counted:
        return "stored reports are still being counted"
    if view.wave + 1 >= len(view.spec.sizes) and wave.pending:
        return f"the last wave waits for {counted(wave.pending, 'device')} under way"
    return ""


def _needed(wave: Tally, threshold: Threshold) -> int:
    """Successes without which the wave does not pass."""
    return max(1, wave.reached - threshold.allowed(wave.reached)) if wave.reached else 0


def _soak_ends(view: RolloutView, wave: Tally, needed: int) -> int:
    """The soak begins with the last of the needed successes."""
    times = sorted(p.finished_at_ms or 0 for p in wave.succeeded)
    return (times[needed - 1] if needed else 0) + view.spec.soak_s * 1_000


def _is_done(progress: Progress) -> bool:
    return progress.status is DeviceStatus.DONE


def told(progress: Progress) -> str:
    """One device's failure in one line."""
    outcome = progress.outcome.value if progress.outcome else progress.status.value
    cause = f" ({progress.cause.value})" if progress.cause else ""
    detail = f": {progress.detail}" if progress.detail else ""
    return f"{progress.device} {outcome}{cause}{detail}"


def _evidence(
    view: RolloutView,
    wave: Tally,
    reached: Tally,
    needed: int,
    comparison: Comparison,
    threshold: Threshold,
) -> dict[str, Any]:
    return {
        "wave": view.wave,
        "reached": wave.reached,
        "succeeded": len(wave.succeeded),
        "needed": needed,
        "failed": len(wave.failed),
        "unproven": wave.unproven,
        "pending": wave.pending,
        "superseded": wave.superseded,
        "reached_in_all": reached.reached,
        "failed_in_all": len(reached.failed),
        "untouched": sum(d.progress.status in UNTOUCHED for d in view.devices),
        "threshold": threshold.text,
        "devices": [
            {
                "device": p.device,
                "outcome": p.outcome.value if p.outcome else None,
                "cause": p.cause.value if p.cause else None,
                "detail": p.detail,
            }
            for p in reached.failed[:MAX_NAMED]
        ],
        "comparison": msgspec.to_builtins(comparison),
    }
