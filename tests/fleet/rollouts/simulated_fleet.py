"""Devices that answer assignments as real ones do, and a rollout in memory that assigns to them.

Owns no rule of the planner: it carries out decisions literally, and notes every assignment, so that
tests can count them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from contract.deployments import Cause, Outcome, Phase
from contract.messages import FamilyState, Result
from fleet.rollouts import planner as do
from fleet.rollouts.cohort import order, parse_waves, sizes, wave_of
from fleet.rollouts.planner import plan
from fleet.rollouts.traffic import Figures, Traffic
from fleet.rollouts.views import (
    DeviceStatus,
    DeviceView,
    Kind,
    OnFailure,
    Progress,
    ReleaseRef,
    RolloutView,
    Sighting,
    Spec,
    Status,
)

START_MS = 1_800_000_000_000
OLD = ReleaseRef("digits/1", "1" * 64)
NEW = ReleaseRef("digits/2", "2" * 64)
FAMILY = "digits"

GOOD, SILENT, SLOW, UNPROVEN, LIAR = "good", "silent", "slow", "unproven", "liar"
ROLLS_BACK, REJECTS, FAILS = "rolls-back", "rejects", "fails"
FAILURES = {
    ROLLS_BACK: (Outcome.ROLLED_BACK, Phase.ROLLED_BACK, Cause.CLASS_COLLAPSE, "97 % are class 3"),
    REJECTS: (Outcome.REJECTED, Phase.REJECTED, Cause.TAMPERED, "chunk 4 has another digest"),
    FAILS: (Outcome.FAILED_UNCHANGED, Phase.FAILED, Cause.TRIAL_FAILED, "agreement 41 %"),
}


@dataclass
class SimulatedDevice:
    """One device: what it serves, and how it takes the *new* release. Old ones always work."""

    name: str
    behaviour: str = GOOD
    serving: ReleaseRef | None = OLD
    seq: int = 0
    phase: Phase = Phase.COMMITTED
    last: Result | None = None
    good: int = 0
    wanted: ReleaseRef | None = None
    seen: list[str] = field(default_factory=list)
    """Every target that it was ever assigned, and heard of."""

    def assign(self, seq: int, release: ReleaseRef) -> None:
        """The assignment reaches the device; a silent one hears nothing."""
        if self.behaviour == SILENT:
            return
        self.seq, self.wanted = seq, release
        self.phase = Phase.FETCHING
        self.seen.append(release.target)

    def act(self, bad_digest: str = NEW.digest, inferences: int = 200) -> None:
        """Work the assignment off."""
        wanted = self.wanted
        if wanted is None or self.behaviour == SILENT:
            return
        if wanted.digest == bad_digest and self.behaviour != GOOD:
            self._misbehave(wanted, inferences)
            return
        self._end(wanted, Outcome.SUCCEEDED, Phase.COMMITTED)
        self.serving, self.good = wanted, inferences

    def state(self) -> FamilyState:
        """What it reports of the family."""
        return FamilyState(
            phase=self.phase,
            serving=self.serving.digest if self.serving else None,
            target=self.serving.target if self.serving else None,
            good_inferences=self.good,
            last=self.last,
        )

    def _misbehave(self, wanted: ReleaseRef, inferences: int) -> None:
        if self.behaviour in FAILURES:
            outcome, phase, cause, detail = FAILURES[self.behaviour]
            self._end(wanted, outcome, phase, cause, detail)
        elif self.behaviour == UNPROVEN:
            self._end(wanted, Outcome.UNPROVEN, Phase.COMMITTED, Cause.NO_EVIDENCE, "no traffic")
            self.serving, self.good = wanted, 3
        elif self.behaviour == LIAR:
            self._end(wanted, Outcome.SUCCEEDED, Phase.COMMITTED)
        elif self.behaviour == SLOW:
            self.serving, self.good, self.phase = wanted, 5, Phase.PROBATION

    def _end(
        self,
        wanted: ReleaseRef,
        outcome: Outcome,
        phase: Phase,
        cause: Cause | None = None,
        detail: str = "",
    ) -> None:
        self.phase, self.wanted = phase, None
        self.last = Result(
            seq=self.seq,
            target=wanted.target,
            digest=wanted.digest,
            outcome=outcome,
            cause=cause,
            detail=detail,
        )


class Fleet:
    """One rollout of NEW over devices that serve OLD, moved by hand."""

    def __init__(
        self,
        devices: Iterable[SimulatedDevice],
        waves: Iterable[str] = ("1", "3", "100%"),
        rollout: str = "r1",
        **spec: object,
    ) -> None:
        self.devices = {device.name: device for device in devices}
        self.now_ms = START_MS
        self.decisions: list[do.Decision] = []
        self.given: list[tuple[str, str]] = []
        """(device, target) of every assignment."""
        self._seq = 0
        names = order(rollout, self.devices)
        cumulative = sizes(parse_waves(list(waves)), len(names))
        settings: dict[str, object] = {"soak_s": 10, "deadline_s": 100, "min_inferences": 100}
        self.view = RolloutView(
            id=rollout,
            kind=Kind.ROLLOUT,
            family=FAMILY,
            release=NEW,
            spec=Spec(waves=list(waves), sizes=cumulative, **(settings | spec)),  # type: ignore[arg-type]  # tests name the fields that they change
            status=Status.RUNNING,
            devices=tuple(
                DeviceView(
                    progress=Progress(device=n, position=k, wave=wave_of(k, cumulative)),
                    sighting=Sighting(family=self.devices[n].state()),
                )
                for k, n in enumerate(names)
            ),
        )

    def canary(self) -> SimulatedDevice:
        """The first device of the cohort."""
        return self.devices[self.view.devices[0].progress.device]

    def at(self, wave: int) -> list[SimulatedDevice]:
        """The devices of one wave."""
        found = [d.progress for d in self.view.devices if d.progress.wave == wave]
        return [self.devices[p.device] for p in found]

    def tick(self, after_s: float = 0) -> list[do.Decision]:
        """Let time pass, look at the devices, plan, and carry the plan out."""
        self.now_ms += int(after_s * 1_000)
        self._look()
        decided = plan(self.view, self.now_ms)
        for progress in decided.progress:
            self._set(progress.device, lambda d, p=progress: replace(d, progress=p))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        for decision in decided.decisions:
            self._execute(decision)
        self.decisions += decided.decisions
        return list(decided.decisions)

    def step(self, after_s: float = 1) -> list[do.Decision]:
        """The devices act, then a tick."""
        for device in self.devices.values():
            device.act()
        return self.tick(after_s)

    def run(self, steps: int = 60, after_s: float = 5) -> None:
        """Until the rollout is over or paused, at most `steps`."""
        for _ in range(steps):
            self.step(after_s)
            if self.view.status not in (Status.RUNNING, Status.REVERTING):
                return

    def progress(self, device: str) -> Progress:
        """The stored progress of a device."""
        return next(d.progress for d in self.view.devices if d.progress.device == device)

    def statuses(self) -> dict[DeviceStatus, int]:
        """How many devices stand where."""
        found: dict[DeviceStatus, int] = {}
        for device in self.view.devices:
            found[device.progress.status] = found.get(device.progress.status, 0) + 1
        return found

    def traffic(self, device: str, traffic: Traffic) -> None:
        """What the device's reports say."""
        self._set(device, lambda d: replace(d, traffic=traffic))

    def take_over(self, device: str, by: str = "r9") -> None:
        """Another rollout assigns the device something."""
        self._owners[device] = by

    @property
    def _owners(self) -> dict[str, str | None]:
        if not hasattr(self, "_owner_of"):
            self._owner_of: dict[str, str | None] = dict.fromkeys(self.devices)
        return self._owner_of

    def _look(self) -> None:
        for name, device in self.devices.items():
            seen = Sighting(
                reported_seq=device.seq, family=device.state(), owner=self._owners.get(name)
            )
            self._set(name, lambda d, s=seen: replace(d, sighting=s))  # type: ignore[misc]  # mypy cannot infer a lambda with a default

    def _set(self, device: str, change: Callable[[DeviceView], DeviceView]) -> None:
        self.view = replace(
            self.view,
            devices=tuple(
                change(d) if d.progress.device == device else d for d in self.view.devices
            ),
        )

    def _execute(self, decision: do.Decision) -> None:
        if isinstance(decision, do.Assign):
            for name in decision.devices:
                self._give(name, NEW, DeviceStatus.ASSIGNED)
        elif isinstance(decision, do.Revert):
            self.view = replace(self.view, status=Status.REVERTING)
            for name in decision.devices:
                self._give(name, OLD, DeviceStatus.REVERTING)
        elif isinstance(decision, do.Advance):
            self.view = replace(self.view, wave=decision.wave)
        elif isinstance(decision, do.Pause):
            self.view = replace(self.view, status=Status.PAUSED)
        elif isinstance(decision, do.Complete):
            self.view = replace(self.view, status=Status.COMPLETED)
        elif isinstance(decision, do.Restored):
            self.view = replace(self.view, status=Status.REVERTED)

    def _give(self, name: str, release: ReleaseRef, status: DeviceStatus) -> None:
        self._seq += 1
        self._owners[name] = self.view.id
        self.given.append((name, release.target))
        deadline = self.now_ms + self.view.spec.deadline_s * 1_000
        changed = replace(
            self.progress(name),
            status=status,
            previous=OLD,
            assigned_seq=self._seq,
            assigned_at_ms=self.now_ms,
            deadline_ms=deadline,
        )
        self._set(name, lambda d: replace(d, progress=changed))
        self.devices[name].assign(self._seq, release)


def fleet(count: int, behaviour: str = GOOD, **options: Any) -> Fleet:
    """`count` devices that all behave alike."""
    devices = [SimulatedDevice(f"cam-{n}", behaviour) for n in range(count)]
    return Fleet(devices, **options)


def figures(
    inferences: int = 1_000,
    errors: int = 0,
    invalid: int = 0,
    latency_bin: int = 20,
    classes: Iterable[int] = (100,) * 10,
    outside: int = 0,
) -> Figures:
    """Traffic without anything remarkable, unless told."""
    latencies = [0] * 64
    latencies[latency_bin] = inferences
    return Figures(
        digest=NEW.digest,
        inferences=inferences,
        errors=errors,
        invalid=invalid,
        latency_counts=latencies,
        classes=list(classes),
        ranges={"mean": (inferences, outside)},
    )


PAUSE = {"on_failure": OnFailure.PAUSE}
