"""In-memory stand-ins for what surrounds the deployment: server, hub, guard, worker.

They keep to the real parts' interfaces and semantics, and fail where a test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.errors import Crashed, DeviceError, TransportFailed
from agent.ports import BlobRef
from agent.serving.protocol import (
    Activated,
    Candidate,
    ModelCounters,
    Probed,
    ServedModel,
    ServerCounters,
    ServerStatus,
)
from agent.store.serving_file import read_serving
from agent.trial import TrialResult
from agent.trust.view import TrustedRelease, TrustedView
from contract.messages import DriftWindow
from contract.targets import ReleaseCustom
from model.chunks import unframe
from model.installed import open_installed
from tests.agent.deployment.releases import Released


@dataclass
class Model:
    """One loaded model, and what it has done."""

    digest: str
    target: str
    variant: str
    profile: str
    counts: dict[str, int] = field(default_factory=dict)
    classes: list[int] = field(default_factory=list)

    def answer(self, n: int, classes: Sequence[int] = (1, 1, 1), **counts: int) -> None:
        """Answer `n` requests well, with this mix of classes; `counts` as in ModelCounters."""
        self.counts["good"] = self.counts.get("good", 0) + n
        bad = sum(counts.get(name, 0) for name in ("errors", "invalid"))
        self.counts["inferences"] = self.counts.get("inferences", 0) + n + bad
        for name, value in counts.items():
            self.counts[name] = self.counts.get(name, 0) + value
        total = sum(classes)
        added = [n * share // total for share in classes]
        added[0] += n - sum(added)
        before = self.classes or [0] * len(added)
        self.classes = [a + b for a, b in zip(before, added, strict=True)]

    def counters(self) -> ModelCounters:
        drift = DriftWindow(
            digest=self.digest, profile=self.profile, features={}, classes=self.classes
        )
        seen = ModelCounters(digest=self.digest, profile=self.profile, drift=drift)
        return msgspec.structs.replace(seen, **self.counts)


class SimulatedServer:
    """agent.serving.client.ServerClient over a server in this process."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.lives = 0
        self.up = False
        self.models: dict[str, Model] = {}
        self.candidates: dict[str, Model] = {}
        self.fallbacks: dict[str, str] = {}
        self.refuses: dict[str, DeviceError] = {}
        """Digest -> why loading it fails."""
        self.crashes_on: set[str] = set()
        """Digests that kill the server when they are activated."""
        self.probe_passes = True
        self.calls: list[str] = []
        self.start()

    def start(self) -> None:
        """A new life: boots from serving.json, as the real one does."""
        self.lives += 1
        self.up = True
        self.models, self.candidates, self.fallbacks = {}, {}, {}
        for family, entry in read_serving(self.state_dir).families.items():
            for choice in (entry, entry.previous):
                if choice is None:
                    continue
                try:
                    self.models[family] = self._open(
                        family, choice.digest, Path(choice.directory), choice.variant
                    )
                    break
                except DeviceError as error:
                    self.fallbacks[family] = str(error)

    def die(self) -> None:
        """As if the process were killed."""
        self.up = False

    def status(self) -> ServerStatus:
        self._require_up("status")
        return ServerStatus(
            boot=self.boot,
            pid=1,
            rss_bytes=1,
            port=1,
            families={
                family: ServedModel(
                    digest=m.digest,
                    target=m.target,
                    variant=m.variant,
                    since_ms=1,
                    fallback=family in self.fallbacks,
                    reason=self.fallbacks.get(family, ""),
                )
                for family, m in self.models.items()
            },
            candidates=[
                Candidate(family=f, digest=m.digest, target=m.target, variant=m.variant)
                for f, m in self.candidates.items()
            ],
            unserved={f: why for f, why in self.fallbacks.items() if f not in self.models},
        )

    def counters(self) -> ServerCounters:
        self._require_up("counters")
        families = {family: model.counters() for family, model in self.models.items()}
        return ServerCounters(boot=self.boot, families=families)

    def load(self, family: str, digest: str, directory: Path, variant: str) -> Candidate:
        self._require_up(f"load {digest[:8]}")
        model = self._open(family, digest, directory, variant)
        self.candidates[family] = model
        return Candidate(
            family=family, digest=digest, target=model.target, variant=variant, load_ms=1.0
        )

    def activate(self, family: str, digest: str) -> Activated:
        self._require_up(f"activate {digest[:8]}")
        serving = self.models.get(family)
        if serving is not None and serving.digest == digest:
            self.fallbacks.pop(family, None)
            return Activated(digest=digest, changed=False, replaced=None, swap_ms=0.0)
        if digest in self.crashes_on:
            self.die()
            raise Crashed("the server died")
        candidate = self.candidates.pop(family)
        assert candidate.digest == digest
        self.models[family] = candidate
        self.fallbacks.pop(family, None)
        replaced = None if serving is None else serving.digest
        return Activated(digest=digest, changed=True, replaced=replaced, swap_ms=1.5)

    def unload(self, family: str, digest: str) -> None:
        self._require_up(f"unload {digest[:8]}")
        for models in (self.candidates, self.models):
            if family in models and models[family].digest == digest:
                del models[family]

    def probe(self, family: str, samples: int = 16) -> Probed:
        self._require_up("probe")
        return Probed(
            digest=self.models[family].digest,
            samples=samples,
            passed=self.probe_passes,
            agreement=1.0 if self.probe_passes else 0.25,
            max_error=0.0,
            p95_ms=1.0,
            reason="" if self.probe_passes else "25.0% of the golden samples agree",
        )

    @property
    def boot(self) -> str:
        """The boot id of this life."""
        return f"{self.lives:032x}"

    def _require_up(self, call: str) -> None:
        if not self.up:
            raise Crashed("no inference server")
        self.calls.append(call)

    def _open(self, family: str, digest: str, directory: Path, variant: str) -> Model:
        if digest in self.refuses:
            raise self.refuses[digest]
        found = open_installed(directory, variant, digest)
        assert found.manifest.family == family
        return Model(digest, found.manifest.target, variant, found.profile_digest)


@dataclass
class SimulatedHub:
    """Guard and BlobSource in one: what is signed, and which payloads the broker holds."""

    releases: dict[str, TrustedRelease] = field(default_factory=dict)
    payloads: dict[str, bytes] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)
    refresh_error: DeviceError | None = None
    fetch_error: DeviceError | None = None
    deliver_at_most: int | None = None
    """The connection breaks after so many blobs."""
    asked: list[str] = field(default_factory=list)
    on_blob: Callable[[], None] = lambda: None

    def publish(
        self, released: Released, counter: int = 1, device_classes: Sequence[str] = ()
    ) -> None:
        """Sign a release and hand its blobs to the broker."""
        self.releases[released.target] = TrustedRelease(
            released.target,
            released.digest,
            len(released.manifest_bytes),
            ReleaseCustom(
                family=released.manifest.family,
                counter=counter,
                device_classes=list(device_classes),
            ),
        )
        self.payloads.update(released.payloads)

    def refresh(self, targets: Sequence[str]) -> TrustedView:
        if self.refresh_error is not None:
            raise self.refresh_error
        found = {t: self.releases[t] for t in targets if t in self.releases}
        return _view(found, self.floors)

    def fetch(
        self,
        target: str,
        wanted: Sequence[BlobRef],
        sink: Callable[[BlobRef, bytes], None],
        cancelled: Callable[[], bool],
    ) -> int:
        received = 0
        for ref in wanted:
            if cancelled():
                return received
            if self.fetch_error is not None:
                raise self.fetch_error
            if self.deliver_at_most is not None:
                if self.deliver_at_most == 0:
                    raise TransportFailed("the broker went away")
                self.deliver_at_most -= 1
            payload = self.payloads[ref.digest]
            sink(ref, unframe(payload, ref.length, ref.digest))
            self.asked.append(ref.digest)
            received += len(payload)
            self.on_blob()
        return received


def _view(releases: Mapping[str, TrustedRelease], floors: Mapping[str, int]) -> TrustedView:
    return TrustedView(hub_keys={}, releases=releases, counters=floors, versions={}, now_ms=0)


@dataclass
class SimulatedTrial:
    """Passes, unless it is told of an error for a digest."""

    errors: dict[str, DeviceError] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def __call__(
        self, directory: Path, variant: str, digest: str, cancelled: Callable[[], bool]
    ) -> TrialResult:
        self.ran.append(digest)
        open_installed(directory, variant, digest)
        if digest in self.errors:
            raise self.errors[digest]
        return TrialResult(samples=8, agreement=1.0, max_error=0.0, p50_ms=0.5, p95_ms=1.0)


class InlineRunner:
    """Keeps jobs until the test runs them: one thread, and every order is the test's."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)

    def stop(self) -> None:
        self.jobs.clear()

    def run_one(self) -> bool:
        """Carry out the oldest job; False when there was none."""
        if not self.jobs:
            return False
        self.jobs.pop(0)()
        return True
