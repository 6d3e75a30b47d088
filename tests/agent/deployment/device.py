"""A device for tests: the real Deployer, store and journal, with simulated surroundings.

It can lose power and come back: `reboot` builds everything anew over the same state folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.deployment.drafts import EventDraft
from agent.deployment.driver import Deployer
from agent.deployment.state import Deployment, Stage, decode_deployment
from agent.deployment.worker import WorkerResult
from agent.journal import Journal
from agent.store.serving_file import ServingEntry, read_serving
from contract.deployments import Mode
from contract.messages import Assignment, FamilyAssignment, Hardware, ProbationPolicy
from tests.agent.deployment.releases import Released
from tests.agent.deployment.simulators import (
    InlineRunner,
    Model,
    SimulatedHub,
    SimulatedServer,
    SimulatedTrial,
)

FAMILY = "digits"
DEVICE = "cam-1"
HARDWARE = Hardware(machine="x86_64", device_class="pi", runtimes={"onnxruntime": "1.31.1"})
POLICY = ProbationPolicy(min_inferences=60, window_s=600)


class Device:
    """One device and its hub."""

    def __init__(
        self,
        state_dir: Path,
        hub: SimulatedHub,
        checkpoint: Callable[[str], None] = lambda name: None,
        emit: Callable[[EventDraft], None] | None = None,
        ms_per_look: int = 0,
    ) -> None:
        """`ms_per_look`: each look at the clock comes that much later than the one before, as on a
        machine that is busy."""
        self.state_dir = state_dir
        self.ms_per_look = ms_per_look
        self.hub = hub
        self.now_ms = 1_000_000
        self.memory = 1 << 40
        self.events: list[EventDraft] = []
        self._emit = emit or self.events.append
        self._checkpoint = checkpoint
        self.trial = SimulatedTrial()
        self.boot()

    def boot(self) -> None:
        """Power on: server, journal, deployer; resumes."""
        self.server = SimulatedServer(self.state_dir)
        self.journal = Journal(self.state_dir / "journal.sqlite")
        self.runner = InlineRunner()
        self.inbox: list[WorkerResult] = []
        self.deployer = Deployer(
            state_dir=self.state_dir,
            journal=self.journal,
            guard=self.hub,
            blobs=self.hub,
            server=self.server,
            hardware=HARDWARE,
            emit=self._emit,
            clock=lambda: self.now_ms,
            inbox=self.inbox.append,
            trial=self.trial,
            memory=lambda: self.memory,
            runner=self.runner,
            monotonic=self._monotonic,
            checkpoint=self._checkpoint,
            server_patience_s=0.0,
        )
        self.deployer.resume()

    def _monotonic(self) -> int:
        self.now_ms += self.ms_per_look
        return self.now_ms

    def reboot(self) -> None:
        """Power off and on: nothing in memory remains."""
        self.journal.close()
        self.boot()

    def assign(
        self,
        released: Released,
        seq: int,
        policy: ProbationPolicy = POLICY,
        mode: Mode = Mode.SERVE,
        deadline_ms: int = 0,
        metered_bytes: int = 0,
    ) -> None:
        """The hub's assignment of one release."""
        family = FamilyAssignment(
            target=released.target,
            digest=released.digest,
            rollout=f"r{seq}",
            probation=policy,
            mode=mode,
            deadline_ms=deadline_ms,
            metered_bytes=metered_bytes or msgspec.UNSET,
        )
        assignment = Assignment(
            device=DEVICE,
            seq=seq,
            issued_at_ms=0,
            expires_at_ms=1 << 50,
            families={released.manifest.family: family},
        )
        self.deployer.assigned(assignment)

    def work_until(self, *stages: Stage, family: str = FAMILY) -> None:
        """Carry out effects until the deployment stands in one of these stages."""
        while self.state(family).stage not in stages:
            assert self.work_one(), f"it stays in {self.state(family)}"

    def work_one(self) -> bool:
        """One effect and its results."""
        ran = self.runner.run_one()
        while self.inbox:
            self.deployer.post(self.inbox.pop(0))
            ran = True
        return ran

    def settle(self) -> None:
        """Carry out whatever waits."""
        while self.work_one():
            pass

    def tick(self, after_ms: int = 1_000) -> None:
        """Let time pass, then look."""
        self.now_ms += after_ms
        self.deployer.tick(self.now_ms)
        self.settle()

    def serve(self, released: Released, seq: int) -> None:
        """Bring a release all the way to COMMITTED."""
        self.assign(released, seq)
        self.work_until(Stage.PROBATION)
        self.model.answer(100)
        self.tick()
        assert self.state().stage is Stage.COMMITTED

    def state(self, family: str = FAMILY) -> Deployment:
        """As the journal has it."""
        data = self.journal.deployments().get(family)
        return Deployment(family=family) if data is None else decode_deployment(data)

    @property
    def model(self) -> Model:
        """What serves the family."""
        return self.server.models[FAMILY]

    @property
    def entry(self) -> ServingEntry | None:
        """The family in serving.json."""
        return read_serving(self.state_dir).families.get(FAMILY)

    def outcomes(self) -> list[tuple[str, str, str | None]]:
        """(target, outcome, cause) of every end that was told, in order."""
        return [
            (e.target, e.outcome.value, None if e.cause is None else e.cause.value)
            for e in self.events
            if e.outcome is not None
        ]
