"""Rollouts, plans and decisions as the API shows them. Pure but for its arguments' rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from contract.deployments import FAILURES, Outcome
from fleet.rollouts.comparison import MIN_CONTROL
from fleet.rollouts.gates import soak_ends_ms
from fleet.rollouts.loading import progress_of, spec_of
from fleet.rollouts.starting import StartPlan
from fleet.rollouts.views import (
    UNTOUCHED,
    DeviceStatus,
    DeviceView,
    Kind,
    Progress,
    ReleaseRef,
    RolloutView,
    Status,
)
from fleet.rollouts.words import counted, words
from fleet.storage.schema import Decision, Rollout, RolloutDevice

_ROLLOUT = (
    "id",
    "kind",
    "family",
    "target",
    "digest",
    "selector",
    "status",
    "wave",
    "reason",
    "created_at_ms",
    "created_by",
    "updated_at_ms",
    "finished_at_ms",
)
_COUNTED = dict.fromkeys(FAILURES, "failed") | {
    Outcome.TIMED_OUT: "timed_out",
    Outcome.SUCCEEDED: "succeeded",
    Outcome.UNPROVEN: "unproven",
    Outcome.SUPERSEDED: "superseded",
}
FIRSTS = ("device-failed", "revert", "restored")


@dataclass(frozen=True)
class Standing:
    """So many devices of one wave that stand alike."""

    wave: int
    status: DeviceStatus
    outcome: Outcome | None
    devices: int
    assigned_at_ms: int | None
    """When the first of them was assigned something."""


def rollout(
    row: Rollout, standings: Sequence[Standing], firsts: Mapping[str, int]
) -> dict[str, Any]:
    """`firsts`: when a decision of each kind was first taken."""
    spec = spec_of(row)
    told = msgspec.to_builtins(spec)
    return {name: getattr(row, name) for name in _ROLLOUT} | {
        "excluded": told.pop("excluded"),
        "spec": told,
        "counts": counts(standings),
        "timings": _timings(row, firsts),
        "waves": _waves(row, spec.sizes, standings),
    }


def whole(
    head: dict[str, Any], row: Rollout, rows: Sequence[RolloutDevice], now_ms: int
) -> dict[str, Any]:
    """The head with what only each device's row tells: the devices, and how long a wave soaks."""
    progress = [progress_of(found) for found in rows]
    view = RolloutView(
        id=row.id,
        kind=Kind(row.kind),
        family=row.family,
        release=ReleaseRef(row.target, row.digest),
        spec=spec_of(row),
        status=Status(row.status),
        wave=row.wave,
        devices=tuple(DeviceView(progress=each) for each in progress),
    )
    until_ms = soak_ends_ms(view, now_ms)
    waves = [
        wave | {"soak_until_ms": until_ms if wave["index"] == row.wave else None}
        for wave in head["waves"]
    ]
    return head | {"waves": waves, "devices": [_device(each) for each in progress]}


def counts(standings: Iterable[Standing]) -> dict[str, int]:
    """How many devices stand where. `untouched` is waiting and skipped together."""
    found = {status.value: 0 for status in DeviceStatus if status is not DeviceStatus.DONE}
    names = ("total", "untouched", "succeeded", "unproven", "timed_out", "superseded", "failed")
    found |= dict.fromkeys(names, 0)
    for standing in standings:
        found["total"] += standing.devices
        if standing.status is not DeviceStatus.DONE:
            found[standing.status.value] += standing.devices
        if standing.status in UNTOUCHED:
            found["untouched"] += standing.devices
        if standing.outcome is not None:
            found[_COUNTED[standing.outcome]] += standing.devices
    return found


def decision(row: Decision) -> dict[str, Any]:
    """A decision, its evidence, and both in words."""
    return {
        "id": row.id,
        "at_ms": row.at_ms,
        "wave": row.wave,
        "action": row.action,
        "reason": row.reason,
        "evidence": row.evidence,
        "words": words(row.reason, row.evidence),
    }


def plan(found: StartPlan) -> dict[str, Any]:
    """What starting would do."""
    sizes = found.spec.sizes
    return {
        "id": found.id,
        "release": {"target": found.release.target, "digest": found.release.digest},
        "selector": found.selector,
        "cohort": len(found.cohort),
        "waves": [
            {"index": k, "size": len(devices), "cumulative": sizes[k], "devices": devices}
            for k, devices in enumerate(found.waves)
        ],
        "excluded": msgspec.to_builtins(found.spec.excluded),
        "control": found.control,
        "comparison": "control" if found.compares_with_control else "own-previous",
        "words": _plan_words(found),
        "conflict": found.conflict,
    }


def _budget(found: StartPlan) -> list[str]:
    if not found.spec.metered_bytes:
        return []
    most = found.spec.metered_bytes
    return [f"a device to which it would cost more than {most} bytes waits until its deadline"]


def _plan_words(found: StartPlan) -> list[str]:
    spec, release = found.spec, found.release.target.replace("/", ":")
    steps = ", then ".join(str(size) for size in spec.sizes)
    lines = [
        f"{release} would go to {counted(len(found.cohort), 'device')}: {steps} of them in all",
        f"each wave soaks {spec.soak_s} s; a device that is silent for {spec.deadline_s} s has"
        " timed out",
        *_short_soak(found),
        *_budget(found),
        f"{spec.abort_if} of those reached would {spec.on_failure.value} the rollout",
    ]
    if found.compares_with_control:
        lines.append(f"canaries are compared with {found.control} held-back devices")
    else:
        lines.append(
            f"only {counted(found.control, 'device')} held back, {MIN_CONTROL} needed: canaries are"
            " compared with their own previous release and absolute limits"
        )
    if spec.sizes[-1] < len(found.cohort):
        lines.append(
            f"{counted(len(found.cohort) - spec.sizes[-1], 'device')} would stay untouched"
        )
    if found.conflict:
        lines.append(f"it would be refused now: {found.conflict}")
    return lines


def _short_soak(found: StartPlan) -> list[str]:
    """Measurements come once a report interval: a shorter soak ends before they are there."""
    interval_s, soak_s = found.report_s, found.spec.soak_s
    if interval_s is None or soak_s >= interval_s:
        return []
    return [
        f"these devices report every {interval_s} s: a soak of {soak_s} s ends before a full"
        " report of the new release is there, so little is compared"
    ]


def _timings(row: Rollout, firsts: Mapping[str, int]) -> dict[str, float | int | None]:
    started = row.created_at_ms

    def after(action: str) -> float | None:
        return (firsts[action] - started) / 1_000 if action in firsts else None

    return {
        "started_at_ms": started,
        "first_failure_at_ms": firsts.get("device-failed"),
        "revert_at_ms": firsts.get("revert"),
        "restored_at_ms": firsts.get("restored"),
        "first_failure_s": after("device-failed"),
        "restored_s": after("restored"),
    }


def _waves(row: Rollout, sizes: list[int], standings: Sequence[Standing]) -> list[dict[str, Any]]:
    found = []
    for index, cumulative in enumerate(sizes):
        members = [standing for standing in standings if standing.wave == index]
        times = [s.assigned_at_ms for s in members if s.assigned_at_ms is not None]
        found.append(
            {
                "index": index,
                "size": cumulative - (sizes[index - 1] if index else 0),
                "cumulative": cumulative,
                "state": _wave_state(Status(row.status), index, row.wave),
                "started_at_ms": min(times, default=None),
                "counts": counts(members),
            }
        )
    return found


def _wave_state(status: Status, index: int, current: int) -> str:
    if index < current or status is Status.COMPLETED:
        return "passed"
    if index > current:
        return "waiting" if status in (Status.RUNNING, Status.PAUSED) else "stopped"
    if status in (Status.REVERTING, Status.REVERTED):
        return "failed"
    return "stopped" if status is Status.ABORTED else "running"


def _device(progress: Progress) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(progress)
    previous: ReleaseRef | None = progress.previous
    found.pop("previous")
    return found | {
        "previous_target": previous.target if previous else None,
        "previous_digest": previous.digest if previous else None,
    }


def waiting(row: RolloutDevice, needed: int) -> dict[str, Any]:
    """What a device under way waits for: what it says, or inferences once it serves."""
    if row.status == DeviceStatus.SERVING.value:
        said = f"{row.good_inferences} of {needed} good inferences so far"
        return {"device": row.device, "cause": "inferences", "detail": said}
    return {"device": row.device, "cause": row.cause, "detail": row.detail}
