"""What happens next in a rollout: a pure function of what is stored, what is seen and the time.

`plan` returns values: the devices' progress where it changed, and decisions. The engine carries
them out in one transaction; planned again right after, nothing is left to do. A rollback is a
rollout that begins where a revert does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from contract.deployments import FAILURES
from fleet.rollouts.gates import Gate, Verdict, judge, tally, told
from fleet.rollouts.progress import is_late, observe
from fleet.rollouts.views import (
    UNTOUCHED,
    DeviceStatus,
    Kind,
    OnFailure,
    Progress,
    RolloutView,
    Status,
)
from fleet.rollouts.words import counted, named


@dataclass(frozen=True)
class Decision:
    """What to do, why, and on which evidence."""

    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DeviceFailed(Decision):
    """One device ended with a failure. Nothing is done about it here; gates count it."""

    device: str = ""


@dataclass(frozen=True)
class Advance(Decision):
    """The gate passed: wave `wave` begins."""

    wave: int = 0


@dataclass(frozen=True)
class Assign(Decision):
    """Give the release to these devices, none of which has it from this rollout."""

    wave: int = 0
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Complete(Decision):
    """The last gate passed."""


@dataclass(frozen=True)
class Pause(Decision):
    """Assign nothing until an operator resumes."""


@dataclass(frozen=True)
class Revert(Decision):
    """Give each of these devices its previous release back."""

    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restored(Decision):
    """Every device that answers serves its previous release."""


@dataclass(frozen=True)
class Plan:
    """Progress that changed, and decisions in the order in which they are taken."""

    progress: tuple[Progress, ...] = ()
    decisions: tuple[Decision, ...] = ()


def plan(view: RolloutView, now_ms: int) -> Plan:
    """What is new, and what to do about it."""
    observed = tuple(observe(view, d.progress, d.sighting, now_ms) for d in view.devices)
    changed = tuple(p for p, d in zip(observed, view.devices, strict=True) if p != d.progress)
    devices = tuple(replace(d, progress=p) for p, d in zip(observed, view.devices, strict=True))
    seen = replace(view, devices=devices)
    failures = _failures(view, seen)
    if view.status is Status.RUNNING:
        return Plan(changed, (*failures, *_run(seen, now_ms)))
    if view.status is Status.REVERTING:
        return Plan(changed, (*failures, *_revert_on(seen, now_ms)))
    return Plan(changed, failures)


def _failures(before: RolloutView, after: RolloutView) -> tuple[Decision, ...]:
    """Outcomes that turned into failures by what was just seen."""
    pairs = zip(before.devices, after.devices, strict=True)
    new = [
        a.progress
        for b, a in pairs
        if a.progress.outcome in FAILURES and b.progress.outcome is not a.progress.outcome
    ]
    return tuple(
        DeviceFailed(
            reason=told(p),
            device=p.device,
            evidence={
                "device": p.device,
                "outcome": p.outcome.value if p.outcome else None,
                "cause": p.cause.value if p.cause else None,
                "detail": p.detail,
                "phase": p.phase,
                "good_inferences": p.good_inferences,
            },
        )
        for p in new
    )


def _run(view: RolloutView, now_ms: int) -> tuple[Decision, ...]:
    waiting = _waiting(view, view.wave)
    if waiting:
        return (_assign(view, view.wave, waiting),)
    gate = judge(view, now_ms)
    if gate.verdict is Verdict.WAIT:
        return ()
    if gate.verdict is Verdict.PASS:
        return _passed(view, gate)
    if gate.verdict is Verdict.STUCK or view.spec.on_failure is OnFailure.PAUSE:
        return (Pause(reason=gate.reason, evidence=gate.evidence),)
    return (revert(view, gate.reason, gate.evidence),)


def _passed(view: RolloutView, gate: Gate) -> tuple[Decision, ...]:
    following = view.wave + 1
    if following >= len(view.spec.sizes):
        untouched = sum(d.progress.status in UNTOUCHED for d in view.devices)
        rest = f"; {counted(untouched, 'device')} not reached" if untouched else ""
        reason = f"{gate.reason} in the last wave{rest}"
        return (Complete(reason=reason, evidence=gate.evidence),)
    devices = _waiting(view, following)
    reason = f"wave {view.wave + 1} of {len(view.spec.sizes)} passed: {gate.reason}"
    return (
        Advance(reason=reason, evidence=gate.evidence, wave=following),
        _assign(view, following, devices),
    )


def _assign(view: RolloutView, wave: int, devices: tuple[str, ...]) -> Assign:
    return Assign(
        reason=f"wave {wave + 1} of {len(view.spec.sizes)}: {view.release.target} to"
        f" {counted(len(devices), 'device')}",
        evidence={"devices": list(devices)},
        wave=wave,
        devices=devices,
    )


def _waiting(view: RolloutView, wave: int) -> tuple[str, ...]:
    """Devices of this wave, and of earlier ones should any have been left behind."""
    return tuple(
        d.progress.device
        for d in view.devices
        if d.progress.status is DeviceStatus.WAITING and d.progress.wave <= wave
    )


def revert(view: RolloutView, reason: str, evidence: dict[str, Any]) -> Revert:
    """Take the release back from every device that received it and is still this rollout's."""
    devices = tuple(
        d.progress.device
        for d in view.devices
        if d.progress.status not in UNTOUCHED and d.sighting.owner == view.id
    )
    untouched = sum(d.progress.status in UNTOUCHED for d in view.devices)
    return Revert(
        reason=f"{reason}; {counted(len(devices), 'device')} to go back, {untouched} never touched",
        evidence=evidence | {"reverting": list(devices), "untouched": untouched},
        devices=devices,
    )


def _revert_on(view: RolloutView, now_ms: int) -> tuple[Decision, ...]:
    """Done when each device is back, or has been silent for as long as a device may."""
    back = [p.progress for p in view.devices if p.progress.status is DeviceStatus.REVERTING]
    if not all(is_late(view, p, now_ms) for p in back):
        return ()
    restored = sum(d.progress.status is DeviceStatus.REVERTED for d in view.devices)
    silent = [p.device for p in back]
    what = "rolled back" if view.kind is Kind.ROLLBACK else "restored"
    reason = f"{counted(restored, 'device')} {what}"
    if silent:
        reason += f"; {len(silent)} without an answer in time: {named(silent, 5)}"
    failed = tally(view, view.devices).failed
    evidence = {"restored": restored, "silent": silent, "failed": [p.device for p in failed]}
    return (Restored(reason=reason, evidence=evidence),)
