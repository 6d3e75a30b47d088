"""A device under attack, its hub, and the broker between them.

Real: TUF metadata and keys, Mosquitto, the device's link, guard, journal, store, deployment, data
plane and models. The test owns time and order: workers run where it says, clocks stand where it
sets them. No assertion of an attack is made here but the one that all share, `refuses`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from agent.deployment.drafts import EventDraft
from agent.deployment.driver import Deployer
from agent.deployment.state import Deployment, Stage, decode_deployment
from agent.deployment.waiting import LONGEST_MS
from agent.deployment.worker import WorkerResult
from agent.errors import DeviceError
from agent.journal import Journal
from agent.link.inbox import Received
from agent.trial import TrialResult, try_release
from agent.trust.guard import TrustGuard, check_assignment, check_command, install_root
from contract.codec import encode
from contract.deployments import Cause, Outcome
from contract.envelope import seal
from contract.ids import digest_of
from contract.messages import (
    Assignment,
    Command,
    FamilyAssignment,
    ProbationPolicy,
    TufFile,
    TufIndex,
    Verb,
)
from contract.topics import Channel, blob_topic, device_topic, tuf_index_topic, tuf_topic
from tests.agent.deployment.device import FAMILY, HARDWARE
from tests.agent.deployment.releases import WIDTH, Released
from tests.agent.deployment.simulators import InlineRunner
from tests.agent.wire import DEVICE, Hub, Link
from tests.attacks.bundles import bundle_of
from tests.attacks.plane import LocalServer
from tests.trust.ceremony import HOUR_MS, World

QUESTIONS = np.random.default_rng(11).normal(size=(4, WIDTH)).astype(np.float32)
PROVEN_AFTER = 20


@dataclass
class Source:
    """Files that the broker holds in place of the hub's; what it lists; what it has lost."""

    replaced: dict[str, bytes] = field(default_factory=dict)


class Scene:
    """One device, pi-1, of one fleet."""

    def __init__(self, directory: Path, world: World, hub: Hub, link: Link) -> None:
        self.checkpoint: Callable[[str], None] = lambda name: None
        self.world = world
        self.hub = hub
        self.link = link
        self.source = Source()
        self.clock_ms: int | None = None
        self.state_dir = directory / "device"
        self.events: list[EventDraft] = []
        self.seq = 0
        self.mono_ms = 0
        self.state_dir.mkdir()
        install_root(self.state_dir / "tuf", world.repository.files()["1.root.json"])
        self.boot()

    # --- the device

    def boot(self) -> None:
        """Power on."""
        self.server = LocalServer(self.state_dir)
        self.journal = Journal(self.state_dir / "journal.sqlite")
        self.guard = TrustGuard(
            self.state_dir / "tuf", self.journal, self.link.metadata, self.now_ms, 0
        )
        self.runner = InlineRunner()
        self.inbox: list[WorkerResult] = []
        self.deployer = Deployer(
            state_dir=self.state_dir,
            journal=self.journal,
            guard=self.guard,
            blobs=self.link.blobs,
            server=self.server,
            hardware=HARDWARE,
            emit=self.events.append,
            clock=self.guard.now_ms,
            inbox=self.inbox.append,
            trial=_trial,
            memory=lambda: 1 << 40,
            runner=self.runner,
            monotonic=lambda: self.mono_ms,
            checkpoint=lambda name: self.checkpoint(name),
            server_patience_s=0.0,
        )
        self.deployer.resume()

    def power_off(self) -> None:
        """Everything in memory is gone."""
        self.server.stop()
        self.journal.close()

    def now_ms(self) -> int:
        """The device's own clock; the world's, unless a test set another."""
        return self.world.now_ms if self.clock_ms is None else self.clock_ms

    def settle(self) -> None:
        """Carry out whatever waits."""
        while self.runner.run_one() or self.inbox:
            while self.inbox:
                self.deployer.post(self.inbox.pop(0))

    def tick(self) -> None:
        """Look, as the main loop does about once a second."""
        self.deployer.tick(self.guard.now_ms())
        self.settle()

    def state(self) -> Deployment:
        """As the journal has it."""
        data = self.journal.deployments().get(FAMILY)
        return Deployment(family=FAMILY) if data is None else decode_deployment(data)

    def answers(self) -> bytes:
        """What the device answers to a few questions right now."""
        return bytes(self.server.infer(FAMILY, QUESTIONS).round(4).tobytes())

    def serving(self) -> str:
        """The digest that answers."""
        return self.server.status().families[FAMILY].digest

    # --- the hub and its broker

    def publish(self, released: Released) -> None:
        """Sign a release with the offline keys and hand everything to the broker."""
        name = f"{FAMILY}-{released.manifest.version}.bundle"
        if not (self.world.directory / name).exists():
            shutil.copy(bundle_of(released), self.world.directory / name)
        self.world.publish(FAMILY, released.manifest.version)
        self.publish_blobs(released)
        self.publish_trust()

    def publish_blobs(self, released: Released) -> None:
        """Every blob of the release."""
        for digest, payload in released.payloads.items():
            self.hub.post(blob_topic(digest), payload)
        self.hub.retain(blob_topic(released.digest), released.payloads[released.digest])

    def publish_trust(self, files: dict[str, bytes] | None = None) -> None:
        """What the hub has, or `files`, with what the attacker put in its place; index last."""
        held = (self.world.repository.files() if files is None else files) | self.source.replaced
        for name, data in held.items():
            self.hub.post(tuf_topic(name), data)
        self.publish_index({name: TufFile(len(d), digest_of(d)) for name, d in held.items()})

    def publish_index(self, listed: dict[str, TufFile]) -> None:
        """The unsigned hint."""
        self.hub.retain(tuf_index_topic(), encode(TufIndex(files=listed, at_ms=0)))

    def assignment(self, released: Released, seq: int | None = None, **more: object) -> Assignment:
        """The hub's wish, with the next number."""
        self.seq = self.seq + 1 if seq is None else seq
        wanted = FamilyAssignment(
            target=released.target,
            digest=str(more.get("digest", released.digest)),
            rollout=f"r{self.seq}",
            probation=ProbationPolicy(min_inferences=PROVEN_AFTER, max_latency_ratio=1e6),
        )
        return Assignment(
            device=str(more.get("device", DEVICE)),
            seq=self.seq,
            issued_at_ms=self.world.now_ms,
            expires_at_ms=self.world.now_ms + 200 * 24 * HOUR_MS,
            families={FAMILY: wanted},
        )

    def command(self, device: str = DEVICE, after_ms: int = HOUR_MS) -> Command:
        """A command that would do harm: go back."""
        return Command(
            device=device,
            id="c-1",
            verb=Verb.ROLLBACK,
            family=FAMILY,
            issued_at_ms=self.world.now_ms,
            expires_at_ms=self.world.now_ms + after_ms,
        )

    def sealed(self, message: Assignment | Command) -> bytes:
        """Signed with the hub's key."""
        return seal(message, self.world.repository.assignment_key())

    # --- what the tests do

    def assign(self, released: Released) -> None:
        """A genuine assignment, taken up."""
        self.deployer.assigned(self.assignment(released))
        self.settle()

    def serve(self, released: Released) -> None:
        """Bring a release all the way into service, with live answers."""
        self.assign(released)
        self.finish()

    def later(self) -> None:
        """Past the longest wait before another try."""
        self.mono_ms += LONGEST_MS
        self.tick()

    def recovers(self, released: Released) -> None:
        """What was refused only for now comes into service by itself, once the attack is over."""
        self.later()
        self.finish()
        assert self.serving() == released.digest

    def finish(self) -> None:
        """Prove what has been activated."""
        assert self.state().stage is Stage.PROBATION, self.events[-1]
        for _ in range(PROVEN_AFTER):
            self.answers()
        self.tick()
        assert self.state().stage is Stage.COMMITTED, self.events[-1]

    def told(self) -> Cause | None:
        """The cause in the last thing that the device said of the newest assignment."""
        last = self.events[-1]
        assert last.assignment_seq == self.seq, last
        return last.cause

    def refuses(self, released: Released, cause: Cause) -> EventDraft:
        """Assigned this release, the device refuses it by this class and serves on."""
        before, answers = self.serving(), self.answers()
        self.assign(released)
        told = self.events[-1]
        assert self.told() is cause, told
        assert told.outcome in (None, Outcome.REJECTED, Outcome.FAILED_UNCHANGED), told
        assert self.serving() == before
        assert self.answers() == answers
        return told

    def deaf_to(self, channel: Channel, payload: bytes, kind: type[DeviceError]) -> None:
        """What comes on this topic is refused by this class, and the device serves on."""
        before, state = self.answers(), self.state()
        received = self.receive(channel, payload)
        with pytest.raises(DeviceError) as caught:
            self.obey(received)
        assert caught.type is kind, caught.value
        self.settle()
        assert self.state() == state
        assert self.answers() == before

    def receive(self, channel: Channel, payload: bytes) -> Received:
        """Send it through the broker, and take it out of the device's inbox."""
        topic = device_topic(DEVICE, channel)
        self.link.connection.subscribe([topic])
        self.hub.retain(topic, payload)
        for _ in range(100):
            for thing in self.link.inbox.take(0.1):
                if isinstance(thing, Received) and thing.payload == payload:
                    self.hub.retain(topic, b"")
                    return thing
        raise AssertionError("nothing came")

    def obey(self, received: Received) -> None:
        """As the main loop does with what needs no refresh."""
        view = self.guard.cached_view()
        assert view is not None
        if received.channel is Channel.ASSIGNMENT:
            known = self.journal.assignment_seq()
            self.deployer.assigned(check_assignment(received.payload, view, DEVICE, known))
        else:
            command = check_command(received.payload, view, DEVICE)
            self.deployer.rollback(str(command.family))


def _trial(
    directory: Path, variant: str, digest: str, cancelled: Callable[[], bool]
) -> TrialResult:
    """The trial without its child process."""
    report = try_release(directory, variant, digest)
    assert report.result is not None
    assert report.cause is None
    return report.result
