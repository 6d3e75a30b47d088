"""The control process's view of the inference server, and the watches over candidates in it.

One look a tick; everything else works on what that look showed. Steers nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from agent.deployment import events as on
from agent.deployment.drafts import clip
from agent.deployment.good_count import GoodCount
from agent.deployment.ports import InferenceServer
from agent.deployment.probation import Decision
from agent.deployment.results import attempt_of
from agent.deployment.state import Deployment
from agent.deployment.watching import SILENCE_MS, Watch, event_of
from agent.deployment.worker import WorkerResult
from agent.errors import Crashed, DeviceError
from agent.serving.protocol import MAX_PROBE_SAMPLES, Probed, ServerCounters
from agent.store.install import read_manifest
from agent.store.layout import Layout

LEAST_PROBES = 16


@dataclass(frozen=True)
class Found:
    """What a look means for one probation."""

    event: on.Event | None = None
    probe_samples: int = 0


class Observer:
    """Owned by the main loop; only `probe` runs on the worker thread."""

    def __init__(self, layout: Layout, server: InferenceServer, good: GoodCount) -> None:
        self._layout = layout
        self._server = server
        self._good = good
        self._watches: dict[str, Watch] = {}
        self._counters: ServerCounters | None = None
        self._silence = ""
        self._last_answer_ms: int | None = None

    def look(self, now_ms: int) -> None:
        """Ask the server once; `now_ms` is monotonic."""
        try:
            self._counters = self._server.counters()
        except DeviceError as error:
            self._silence = str(error)
            last = self._last_answer_ms
            if last is None or now_ms - last >= SILENCE_MS:
                self._counters = None
            return
        self._silence = ""
        self._last_answer_ms = now_ms
        self._good.see(self._counters, now_ms)

    def serving(self, state: Deployment) -> str | None:
        """The digest that answered at the last look; None when nothing does, or it is silent."""
        if self._counters is None:
            return None
        seen = self._counters.families.get(state.family)
        return None if seen is None else seen.digest

    def elsewhere(self, state: Deployment) -> bool:
        """Whether the server answered at the last look, and not with what the journal says."""
        if state.serving is None or self._silence or self._counters is None:
            return False
        return self.serving(state) != state.serving.digest

    def good(self, family: str, digest: str) -> int:
        """Good inferences of `digest` over all lives of the server."""
        return self._good.total(family, digest)

    def watch(self, state: Deployment, now_ms: int) -> None:
        """Begin to watch the candidate that serves now."""
        digest = attempt_of(state).wanted.digest
        self._watches[state.family] = Watch(digest, now_ms, self._labels(state.family, digest))

    def forget(self, family: str) -> None:
        """The deployment is no more."""
        self._watches.pop(family, None)

    def judge(self, state: Deployment, now_ms: int) -> Found:
        """What the last look means for a deployment that is on probation."""
        watch = self._watches.get(state.family)
        if watch is None:
            return Found()
        counters = self._counters
        if self._silence or counters is None:
            return Found(watch.silent(now_ms, self._silence))
        died = watch.died(counters)
        if died is not None:
            return Found(died)
        seen = counters.families.get(state.family)
        if seen is None or seen.digest != watch.digest:
            return Found(self._not_serving(watch, state, now_ms))
        good = self._good.total(state.family, watch.digest)
        verdict = watch.verdict(state, seen, good, now_ms)
        if verdict.decision is Decision.PROBE and not watch.probing:
            watch.probing = True
            least = attempt_of(state).wanted.probation.min_inferences
            return Found(probe_samples=min(max(least, LEAST_PROBES), MAX_PROBE_SAMPLES))
        event = event_of(verdict)
        if event is not None:
            self._good.save(state.family, now_ms)
        return Found(event or watch.progress(now_ms))

    def probe(self, result: WorkerResult, digest: str, samples: int) -> WorkerResult:
        """Run golden samples through the serving model.

        A server that is not there is the watch's to notice: the answer is then of no digest, and
        the probe is asked for again. Any other error is the candidate's.
        """
        try:
            probed = self._server.probe(result.family, samples)
        except Crashed as error:
            probed = _no_probe("0" * 64, error)
        except DeviceError as error:
            probed = _no_probe(digest, error)
        return msgspec.structs.replace(result, probed=probed)

    def probed(self, family: str, probed: Probed) -> None:
        """The probe's answer, back on the main loop."""
        watch = self._watches.get(family)
        if watch is not None:
            watch.probing = False
            if probed.digest == watch.digest:
                watch.probed = probed

    def _not_serving(self, watch: Watch, state: Deployment, now_ms: int) -> on.Event | None:
        try:
            given_up = watch.given_up(self._server.status(), state.family)
        except DeviceError as error:
            return watch.silent(now_ms, str(error))
        return given_up or watch.silent(now_ms, "it serves nothing of this family yet")

    def _labels(self, family: str, digest: str) -> tuple[str, ...]:
        try:
            manifest = read_manifest(self._layout.installed(family, digest), digest)
        except DeviceError:
            return ()
        return () if manifest is None else tuple(manifest.labels)


def _no_probe(digest: str, error: DeviceError) -> Probed:
    return Probed(
        digest=digest,
        samples=0,
        passed=False,
        agreement=0.0,
        max_error=0.0,
        p95_ms=0.0,
        reason=clip(str(error)),
    )
