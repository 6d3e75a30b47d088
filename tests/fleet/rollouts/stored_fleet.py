"""The engine over a real database: devices whose reports are stored as the ingest stores them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from contract.messages import (
    DriftWindow,
    FamilyState,
    FeatureCounts,
    InferenceWindow,
    Report,
    Stamp,
    State,
)
from fleet.ports import HubServices
from fleet.records import Batch
from fleet.releases import publish_bundle
from fleet.rollouts.engine import tick
from fleet.rollouts.starting import StartRequest, start
from fleet.rollouts.views import ReleaseRef
from fleet.storage.schema import AssignedFamily, Decision, Device, Rollout, RolloutDevice
from tests.fleet.harness import HubDirectory
from tests.fleet.rollouts.simulated_fleet import SimulatedDevice

FAMILY = "digits"
BOOT = "0123456789abcdef" * 2


@dataclass
class HandClock:
    """A hub's clock that only tests move."""

    now_ms: int

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class StoredFleet:
    """A hub at rest with releases and devices; `step` is what a second of its life does."""

    hub: HubServices
    directory: HubDirectory
    clock: HandClock
    devices: dict[str, SimulatedDevice] = field(default_factory=dict)
    bad: str = ""
    """The digest under which badly behaving devices misbehave."""
    _mono_ms: int = 0
    _row: int = 0

    def publish(self, *versions: str) -> dict[str, ReleaseRef]:
        """Sign and publish releases of the family."""
        found = {}
        for version in versions:
            path = self.directory.signed(FAMILY, version, version.encode() * 5_000)
            release = publish_bundle(self.hub, path, "test").release
            found[version] = ReleaseRef(release.target, release.digest)
        return found

    def enrol(self, *names: str, **labels: str) -> None:
        """Devices that are enrolled and serve nothing yet."""
        for name in names:
            self.devices[name] = SimulatedDevice(name, serving=None)
            with self.hub.storage.session() as session:
                row = session.get(Device, name) or Device(name=name, created_at_ms=self.clock())
                row.device_class, row.labels, row.status = "generic", labels, "enrolled"
                row.enrolled_at_ms = self.clock()
                session.add(row)

    def start(self, version: str, **request: Any) -> str:
        """Start a rollout of a version with short times."""
        defaults = {"soak_s": 10, "deadline_s": 100, "min_inferences": 100}
        asked = StartRequest(release=f"{FAMILY}:{version}", **(defaults | request))
        return start(self.hub, asked, "test")

    def deliver(self, bad: str = "") -> None:
        """Devices read their assignments, work them off, and report."""
        with self.hub.storage.session() as session:
            batch = Batch(session, self.clock())
            for row in session.scalars(select(AssignedFamily)):
                device = self.devices.get(row.device)
                if device is not None and device.seq < row.seq:
                    device.assign(row.seq, ReleaseRef(row.target, row.digest))
            for device in self.devices.values():
                if device.seq and device.behaviour != "silent":
                    device.act(bad or self.bad)
                    self._mono_ms += 1
                    batch.state(self._state(device), False)

    def step(self, after_s: float = 1, bad: str = "") -> None:
        """Time passes, devices act, the engine ticks."""
        self.clock.now_ms += int(after_s * 1_000)
        self.deliver(bad)
        tick(self.hub, self.clock())

    def run(self, rollout: str, steps: int = 60, after_s: float = 6) -> str:
        """Until the rollout is neither running nor reverting; returns its status."""
        tick(self.hub, self.clock())
        for _ in range(steps):
            self.step(after_s)
            status = self.rollout(rollout).status
            if status not in ("running", "reverting"):
                return status
        return self.rollout(rollout).status

    def report(self, device: str, digest: str, inferences: int = 100, errors: int = 0) -> None:
        """One window of measurements."""
        self._row += 1
        latencies = [0] * 64
        latencies[20] = inferences
        counts = FeatureCounts(bins=[1] * 16, n=inferences)
        message = Report(
            device=device,
            seq=self._row,
            stamp=Stamp(BOOT, self._row, self.clock(), True),
            window_ms=60_000,
            inference={
                FAMILY: InferenceWindow(
                    digest=digest,
                    inferences=inferences,
                    errors=errors,
                    latency_counts=latencies,
                )
            },
            drift={
                FAMILY: DriftWindow(
                    digest=digest,
                    profile="f" * 64,
                    features={"mean": counts},
                    classes=[inferences // 2, inferences // 2],
                )
            },
        )
        with self.hub.storage.session() as session:
            Batch(session, self.clock()).outbox_row(message)

    def rollout(self, rollout: str) -> Rollout:
        """The stored rollout."""
        with self.hub.storage.reading() as session:
            return session.get_one(Rollout, rollout)

    def rows(self, rollout: str) -> dict[str, RolloutDevice]:
        """The stored progress of each device."""
        with self.hub.storage.reading() as session:
            found = session.scalars(select(RolloutDevice).where(RolloutDevice.rollout == rollout))
            return {row.device: row for row in found.all()}

    def decisions(self, rollout: str) -> list[Decision]:
        """Every decision, in order."""
        with self.hub.storage.reading() as session:
            wanted = select(Decision).where(Decision.rollout == rollout).order_by(Decision.id)
            return list(session.scalars(wanted))

    def actions(self, rollout: str) -> list[str]:
        """What was decided, in order."""
        return [decision.action for decision in self.decisions(rollout)]

    def assigned(self) -> dict[str, str]:
        """Device -> the target that it should have."""
        with self.hub.storage.reading() as session:
            return {row.device: row.target for row in session.scalars(select(AssignedFamily))}

    def seqs(self) -> dict[str, int]:
        """Device -> the number of its assignment."""
        with self.hub.storage.reading() as session:
            return {row.name: row.assignment_seq for row in session.scalars(select(Device))}

    def served(self) -> dict[str, str | None]:
        """Device -> the target that it serves."""
        return {n: d.serving.target if d.serving else None for n, d in self.devices.items()}

    def _state(self, device: SimulatedDevice) -> State:
        families: dict[str, FamilyState] = {FAMILY: device.state()}
        stamp = Stamp(BOOT, self._mono_ms, self.clock(), True)
        return State(device=device.name, stamp=stamp, assignment_seq=device.seq, families=families)


def names(count: int) -> Iterable[str]:
    """`cam-0`, ..."""
    return [f"cam-{n}" for n in range(count)]
