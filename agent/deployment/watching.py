"""Watching one candidate on probation: what the server says at each tick, turned into an event.

A server that is silent or comes back with another boot id has died; one that serves something else
has given the candidate up. Everything else is judged (agent.deployment.probation). Asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.deployment import events as on
from agent.deployment.probation import Decision, Verdict, Watched, judge
from agent.deployment.results import attempt_of
from agent.deployment.state import Deployment
from agent.serving.protocol import ModelCounters, Probed, ServerCounters, ServerStatus
from contract.deployments import Cause

SILENCE_MS = 20_000
"""A server that does not answer for so long is dead, or as good as dead."""
PROGRESS_MS = 10 * 60 * 1000
"""So long a stretch of probation is written down, and a boot that had one was no crash."""


@dataclass
class Watch:
    """One candidate under watch; times are monotonic milliseconds."""

    digest: str
    started_ms: int
    labels: tuple[str, ...] = ()
    boot: str | None = None
    silent_since_ms: int | None = None
    probing: bool = False
    probed: Probed | None = None

    def silent(self, now_ms: int, why: str) -> on.Event | None:
        """The server did not answer, or does not serve this family yet."""
        if self.silent_since_ms is None:
            self.silent_since_ms = now_ms
        if now_ms - self.silent_since_ms < SILENCE_MS:
            return None
        self.silent_since_ms = now_ms
        self.boot = None  # this death is counted; the boot id that follows it is no second one
        return on.ServerDied(detail=f"it did not answer for {SILENCE_MS // 1000} s: {why}")

    def died(self, counters: ServerCounters) -> on.Event | None:
        """Whether this is another life of the server than at the last look."""
        before, self.boot = self.boot, counters.boot
        if before is None or before == counters.boot:
            return None
        self.probing = False
        return on.ServerDied(detail="its process was started again")

    def given_up(self, status: ServerStatus, family: str) -> on.Event | None:
        """Whether the server itself serves something else, or nothing, and why."""
        served = status.families.get(family)
        if served is not None and served.digest != self.digest:
            cause = served.fallback_cause or Cause.CRASHED
            reason = served.reason or "no reason given"
            return on.Unwell(cause=cause, detail=f"the server fell back by itself: {reason}")
        if served is None and family in status.unserved:
            reason = status.unserved[family]
            return on.Unwell(cause=Cause.CRASHED, detail=f"the server cannot serve it: {reason}")
        return None

    def verdict(self, state: Deployment, seen: ModelCounters, good: int, now_ms: int) -> Verdict:
        """What the live stream says by now."""
        self.silent_since_ms = None
        watched = Watched(
            counters=seen,
            good=good,
            elapsed_ms=state.watched_ms + now_ms - self.started_ms,
            baseline=state.baseline,
            trial_p95_ms=state.trial_p95_ms,
            labels=self.labels,
            probed=self.probed,
        )
        return judge(attempt_of(state).wanted.probation, watched)

    def progress(self, now_ms: int) -> on.Event | None:
        """A stretch of probation to be written down, so that the next boot goes on from there."""
        if now_ms - self.started_ms < PROGRESS_MS:
            return None
        watched, self.started_ms = now_ms - self.started_ms, now_ms
        return on.Progressed(watched_ms=watched)


def event_of(verdict: Verdict) -> on.Event | None:
    """A verdict as the machine's event; None while there is nothing to decide."""
    if verdict.decision is Decision.COMMIT:
        return on.Proven(figures=verdict.figures)
    if verdict.decision is Decision.UNPROVEN:
        return on.Unproven(detail=verdict.detail, figures=verdict.figures)
    if verdict.decision is Decision.ROLL_BACK:
        cause = verdict.cause or Cause.INTERNAL
        return on.Unwell(cause=cause, detail=verdict.detail, figures=verdict.figures)
    return None
