"""The deployments' shell: journals each step of the machine, then carries out its effects.

Owned by the control process's main loop and called from it alone; long effects run on worker
threads and come back through `inbox`. Decides nothing itself: transitions are
agent.deployment.machine's, verdicts on live traffic agent.deployment.probation's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.deployment import effects as do
from agent.deployment import events as on
from agent.deployment.dispatch import Dispatch
from agent.deployment.drafts import EventDraft, encode_draft
from agent.deployment.fetching import FetchParts
from agent.deployment.floors import require_above_floor
from agent.deployment.good_count import GoodCount
from agent.deployment.handover import Handover
from agent.deployment.machine import step
from agent.deployment.observing import Observer
from agent.deployment.performing import Tools
from agent.deployment.ports import Checkpoint, Guard, InferenceServer, Trial
from agent.deployment.recovery import recorded, recovered, write_missing
from agent.deployment.reporting import draft_of, family_state
from agent.deployment.results import attempt_of
from agent.deployment.state import (
    RUNNING,
    SETTLED,
    Attempt,
    Deployment,
    Stage,
    downloads,
    encode_deployment,
    is_overdue,
)
from agent.deployment.switching import SwitchParts
from agent.deployment.trial_process import available_memory, run_trial
from agent.deployment.waiting import backoff_ms, is_due
from agent.deployment.worker import Runner, WorkerResult
from agent.errors import DiskFull, PolicyRefused
from agent.journal import Journal
from agent.ports import BlobSource
from agent.store.layout import Layout
from contract.deployments import Cause
from contract.messages import MAX_FAMILIES, Assignment, FamilyState, Hardware

log = logging.getLogger(__name__)


def monotonic_ms() -> int:
    """For spans: a clock that nobody sets."""
    return time.monotonic_ns() // 1_000_000


class Deployer:
    """Every family's deployment on this device."""

    def __init__(
        self,
        *,
        state_dir: Path,
        journal: Journal,
        guard: Guard,
        blobs: BlobSource,
        server: InferenceServer,
        hardware: Hardware,
        emit: Callable[[EventDraft], None],
        clock: Callable[[], int],
        inbox: Callable[[WorkerResult], None],
        observed: InferenceServer | None = None,
        agent_version: str | None = None,
        trial: Trial = run_trial,
        memory: Callable[[], int] = available_memory,
        runner: Runner | None = None,
        monotonic: Callable[[], int] = monotonic_ms,
        checkpoint: Checkpoint = lambda name: None,
        server_patience_s: float = 45.0,
        fetch_budget: int = 0,
    ) -> None:
        """`clock` is trusted UTC milliseconds; `inbox` is called on the worker threads and
        only hands over: the loop then calls `post`. `emit` raises `DiskFull` when the outbox cannot
        take a draft. `observed` is the way to the server for looks from the main loop, where a
        short timeout matters; without it, `server` is used.
        """
        layout = Layout(state_dir)
        self._layout = layout
        self._journal = journal
        self._handover = Handover(journal, emit, checkpoint)
        self._clock = clock
        self._monotonic = monotonic
        self._checkpoint = checkpoint
        fetch = FetchParts(
            layout, journal, guard, blobs, hardware, agent_version, checkpoint, budget=fetch_budget
        )
        self._stopping = threading.Event()
        switch = SwitchParts(
            layout, server, checkpoint, server_patience_s, stopping=self._stopping.is_set
        )
        self._switch = switch
        tools = Tools(fetch, switch, trial, memory)
        self._dispatch = Dispatch(tools, runner, inbox, checkpoint)
        self._states: dict[str, Deployment] = {}
        self._retry_at: dict[str, int] = {}
        self._postponed: dict[tuple[str, type[on.Event]], on.Event] = {}
        """The newest of its kind: a disk may stay full for days."""
        self._observer = Observer(layout, observed or server, GoodCount(journal))

    # --- what the loop calls ---------------------------------------------------------------------

    def resume(self) -> None:
        """Once at boot: take up every deployment where the journal left it.

        Raises `JournalBroken` when the journal's rows are not ours.
        """
        self._states = recorded(self._journal)
        self._states.update(recovered(self._layout, self._states))
        write_missing(self._switch, self._states)
        # Power may have gone between a family's step and this number; the hub counts on from it.
        self._remember_seq(max((state.seq for state in self._states.values()), default=0))
        self._handover.flush()
        self._observer.look(self._monotonic())
        for family in list(self._states):
            self._apply(family, on.Resumed(at_ms=self._clock()))

    def assigned(self, assignment: Assignment) -> None:
        """A verified assignment (agent.trust.admission). Families that are absent keep what they
        have; the same assignment again changes nothing."""
        for family, wanted in sorted(assignment.families.items()):
            if family not in self._states and not self._has_room(assignment):
                log.warning("%s: this device holds %d families already", family, MAX_FAMILIES)
                continue
            state = self._states.get(family)
            assigned = on.Assigned(
                attempt=Attempt(assignment.seq, wanted),
                elsewhere=state is not None and self._observer.elsewhere(state),
                at_ms=self._clock(),
            )
            self._apply(family, assigned)
        self._remember_seq(assignment.seq)

    def post(self, result: WorkerResult) -> None:
        """A result that came through `inbox`; one that was overtaken is dropped."""
        state = self._states.get(result.family)
        if state is None or result.run != state.run or self._stopping.is_set():
            return
        if result.probed is not None:
            self._observer.probed(result.family, result.probed)
        if isinstance(result.event, (on.Activated, on.Restored)):
            self._observer.look(self._monotonic())  # what is reported next is the new truth
        if result.event is not None:
            stamped = msgspec.structs.replace(result.event, at_ms=self._clock())
            self._apply(result.family, stamped)

    def tick(self, now_ms: int) -> None:
        """About once a second: retries, deadlines, probation. `now_ms` is trusted UTC."""
        for family in {family for family, _ in self._postponed}:
            self._catch_up(family)
        self._handover.flush()
        self._observer.look(self._monotonic())
        for family in list(self._states):
            self._tick_family(family, now_ms)

    def rollback(self, family: str, cause: Cause = Cause.OPERATOR, detail: str = "") -> None:
        """Go back by one release, or stop the attempt that is under way. Raises `PolicyRefused`
        that says why there is nothing to do."""
        state = self._states.get(family)
        if state is None:
            raise PolicyRefused(f"no release of {family} was ever deployed here")
        require_above_floor(self._journal, state)
        asked = on.RollbackAsked(cause=cause, detail=detail or "asked for", at_ms=self._clock())
        if not self._apply(family, asked):
            raise PolicyRefused(f"{family} is {state.stage.value}: there is no earlier release")

    def release_hold(self, family: str) -> None:
        """Lift the hold that a rollback set. Raises `PolicyRefused` when there is none."""
        state = self._states.get(family)
        if state is None or not state.hold:
            raise PolicyRefused(f"{family} is not held")
        self._apply(family, on.HoldReleased(at_ms=self._clock()))

    def family_states(self) -> dict[str, FamilyState]:
        """For the reported state, as of the last look at the server."""
        return {
            family: family_state(state, self._observer)
            for family, state in self._states.items()
            if state.attempt is not None or state.serving is not None
        }

    def is_busy(self) -> bool:
        """Whether any deployment is under way."""
        return any(state.stage in RUNNING for state in self._states.values())

    def stop(self) -> None:
        """End the workers; what was under way goes on at the next `resume`."""
        self._stopping.set()
        self._dispatch.stop()

    def _remember_seq(self, seq: int) -> None:
        try:
            self._journal.save_assignment_seq(seq)
        except DiskFull as error:
            log.warning("assignment %d will be taken up again: %s", seq, error)

    def _has_room(self, assignment: Assignment) -> bool:
        """For one more family, if need be in place of one that came to nothing."""
        if len(self._states) < MAX_FAMILIES:
            return True
        for family, state in self._states.items():
            idle = state.stage in SETTLED and state.serving is None
            if idle and family not in assignment.families:
                self._journal.forget_deployment(family)
                self._observer.forget(family)
                del self._states[family]
                return True
        return False

    # --- one step --------------------------------------------------------------------------------

    def _apply(self, family: str, event: on.Event) -> bool:
        """Step, journal, then act; returns whether anything changed."""
        self._catch_up(family)
        return self._step(family, event)

    def _catch_up(self, family: str) -> None:
        """Postponed events come before any newer one, whose state they would not fit."""
        waiting = [key for key in self._postponed if key[0] == family]
        for event in [self._postponed.pop(key) for key in waiting]:
            self._step(family, event)

    def _step(self, family: str, event: on.Event) -> bool:
        before = self._states.get(family) or Deployment(family=family)
        after, effects = step(before, event)
        reports = [effect for effect in effects if isinstance(effect, do.Report)]
        if after == before and not effects:
            return False
        drafts = [draft_of(after, report, n, event.at_ms) for n, report in enumerate(reports)]
        after = msgspec.structs.replace(after, events=after.events + len(drafts))
        if not self._save(family, event, after, drafts):
            return True
        self._states[family] = after
        self._handover.flush()
        for effect in effects:
            if not isinstance(effect, do.Report):
                self._carry_out(after, effect)
        return True

    def _save(
        self, family: str, event: on.Event, after: Deployment, drafts: list[EventDraft]
    ) -> bool:
        """Journal a step. One that the disk does not take has not happened; ticks try it again."""
        self._checkpoint("journal:before")
        try:
            encoded = [encode_draft(draft) for draft in drafts]
            self._journal.save_deployment(family, encode_deployment(after), encoded)
        except DiskFull as error:
            log.warning("%s: %s waits: %s", family, type(event).__name__, error)
            self._postponed[family, type(event)] = event
            return False
        self._checkpoint("journal:after")
        return True

    def _carry_out(self, state: Deployment, effect: do.Effect) -> None:
        self._checkpoint(f"effect:{type(effect).__name__}")
        family = state.family
        if isinstance(effect, do.Cancel):
            self._dispatch.cancel(family)
            self._retry_at.pop(family, None)
        elif isinstance(effect, do.RetryLater):
            self._retry_at[family] = self._monotonic() + backoff_ms(effect.tries)
        elif isinstance(effect, do.Watch):
            self._observer.watch(state, self._monotonic())
        elif isinstance(effect, do.WorkerEffect):
            self._retry_at.pop(family, None)
            self._dispatch.send(state, effect, downloads(self._states.values()))

    # --- the passing of time ---------------------------------------------------------------------

    def _tick_family(self, family: str, now_ms: int) -> None:
        if is_due(self._retry_at.get(family), self._monotonic()):
            del self._retry_at[family]
            self._apply(family, on.RetryDue(at_ms=now_ms))
        if is_overdue(self._states[family], now_ms):
            self._apply(family, on.DeadlinePassed(at_ms=now_ms))
        state = self._states[family]
        if state.stage is Stage.PROBATION:
            self._tick_probation(state, now_ms)

    def _tick_probation(self, state: Deployment, now_ms: int) -> None:
        found = self._observer.judge(state, self._monotonic())
        if found.event is not None:
            event = msgspec.structs.replace(found.event, at_ms=now_ms)
            self._apply(state.family, event)
        elif found.probe_samples:
            result = WorkerResult(family=state.family, run=state.run)
            samples, digest = found.probe_samples, attempt_of(state).wanted.digest
            self._dispatch.call(lambda: self._observer.probe(result, digest, samples))
