"""The deployment machine: `step(state, event) -> (state, effects)`, as one table.

IDLE -> FETCHING -> VERIFYING -> STAGED -> TRIAL -> [SHADOW] -> ACTIVATING -> PROBATION -> COMMITTED
                any of the first five -> FAILED(cause), REJECTED(cause);
                from ACTIVATING on    -> RESTORING -> ROLLED_BACK(cause)

Everything that affects a transition lives in this file: if it is not here, it does not change what
a deployment does. The shell (agent.deployment.driver) journals the state that `step` returns
*before* it carries out the effects, and carries them out again after a power cut; so each effect is
safe to repeat, and whatever a result belongs to is told by `run`, which grows with every effect
that is sent to the worker.

Each (stage, event) pair that is not in TABLE is in IGNORED, with the reason. No clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from agent.deployment import effects as do
from agent.deployment import events as on
from agent.deployment.drafts import clip
from agent.deployment.results import (
    attempt_of,
    candidate_of,
    report,
    settle,
    superseded,
    with_figures,
)
from agent.deployment.state import (
    KEPT_FALLBACKS,
    SETTLED,
    Attempt,
    Blame,
    Deployment,
    Serving,
    Stage,
)
from contract.deployments import Cause, Mode, Outcome

MAX_BOOTS = 3
"""So many boots in one stage without progress; one more is a crash loop."""
MAX_CRASHES = 2
"""So many deaths of the server condemn a candidate."""
REFUSALS = frozenset(
    {Cause.ROLLBACK, Cause.UNTRUSTED, Cause.TAMPERED, Cause.MALFORMED, Cause.POLICY}
)
"""Not genuine, or not allowed here: REJECTED. Everything else is FAILED."""
PASSING = frozenset({Cause.TRANSPORT, Cause.STALE, Cause.METERED})
"""Worth another try until the deadline: the network may come back, the hub may sign anew, and what
would cost too much may cost less or be allowed."""
RARELY = 20
"""As after so many tries: what costs too much does so a minute later, and each look costs too."""
Stepped = tuple[Deployment, tuple[do.Effect, ...]]
Handler = Callable[[Deployment, Any], Stepped]


def step(state: Deployment, event: on.Event) -> Stepped:
    """What the deployment becomes by an event, and what has to be done for that."""
    handler = TABLE.get((state.stage, type(event)))
    if handler is None:
        return state, ()
    after, effects = handler(state, event)
    if after.stage is not state.stage:
        after = replace(after, since_ms=event.at_ms)
        if not any(isinstance(effect, do.Report) for effect in effects):
            effects = (report(after), *effects)
    if any(isinstance(effect, (do.WorkerEffect, do.Cancel)) for effect in effects):
        after = replace(after, run=state.run + 1)
    return after, effects


# --- a new assignment ---------------------------------------------------------------------------


def _take_up(state: Deployment, event: on.Assigned) -> Stepped:
    """Terminal results bind (seq, family, digest): only a new seq starts anything.

    One seq spans all families of a device. Where it grew for another family's sake, this one's
    wish is the old one: it was answered, and a hold stays.
    """
    if event.attempt.seq <= state.seq:
        return state, ()
    if state.attempt is not None and _same_wish(state.attempt, event.attempt):
        return replace(state, seq=event.attempt.seq, attempt=event.attempt), ()
    return _begin(state, event.attempt, event.at_ms, event.elsewhere)


def _begin(state: Deployment, attempt: Attempt, at_ms: int, elsewhere: bool = False) -> Stepped:
    """A fresh attempt over what serves; at once a success when it is that, and was proven.

    Where the server fell back by itself (`elsewhere`), nothing is a success before it serves again.
    """
    fresh = Deployment(
        family=state.family,
        seq=attempt.seq,
        attempt=attempt,
        serving=state.serving,
        fallbacks=state.fallbacks,
        last=state.last,
        run=state.run,
        events=state.events,
        since_ms=at_ms,
    )
    serving = state.serving
    if serving is None or elsewhere or not _is(serving, attempt):
        fetching = replace(fresh, stage=Stage.FETCHING)
        return fetching, (report(fetching), do.Fetch())
    fresh = replace(fresh, variant=serving.variant)
    if serving.proven:
        return settle(fresh, Stage.COMMITTED, Outcome.SUCCEEDED, at_ms=at_ms)
    watching = replace(fresh, stage=Stage.PROBATION)
    return watching, (report(watching), do.Watch())


def _supersede(state: Deployment, event: on.Assigned) -> Stepped:
    """Before anything that serves was touched: go on with the same digest, or drop the old."""
    if event.attempt.seq <= state.seq:
        return state, ()
    if _same(state, event.attempt):
        budget = attempt_of(state).wanted.metered_bytes
        adopted, effects = _adopt(state, event.attempt)
        if state.stage is Stage.FETCHING and budget != event.attempt.wanted.metered_bytes:
            # Another bound: what waited for one may go on now, what went on may have to wait.
            return adopted, (*effects, do.Cancel(), do.Fetch())
        return adopted, effects
    old = superseded(state, attempt_of(state), event.attempt)
    begun, effects = _begin(state, event.attempt, event.at_ms, event.elsewhere)
    return begun, (old, do.Cancel(), do.Settle(), do.Tidy(), *effects)


def _supersede_shadow(state: Deployment, event: on.Assigned) -> Stepped:
    """A shadow that is now asked to serve needs no second trial."""
    adopted, effects = _supersede(state, event)
    serve = event.attempt.wanted.mode is Mode.SERVE and adopted.attempt == event.attempt
    if adopted.stage is Stage.SHADOW and serve:
        return _enter(adopted, Stage.ACTIVATING, do.Activate())
    return adopted, effects


def _supersede_active(state: Deployment, event: on.Assigned) -> Stepped:
    """The candidate may serve already: first back to what was committed, then the new one.

    A first release has nothing behind it. It stays, unproven, until the new one takes its place.
    """
    if event.attempt.seq <= state.seq:
        return state, ()
    if _same(state, event.attempt):
        return _adopt(state, event.attempt)
    old = superseded(state, attempt_of(state), event.attempt)
    if state.stage is Stage.PROBATION and not state.fallbacks:
        begun, effects = _begin(state, event.attempt, event.at_ms)
        return begun, (old, do.Cancel(), do.Settle(), do.Tidy(), *effects)
    back = replace(_back(state), seq=event.attempt.seq, queued=event.attempt)
    return back, (old, do.Cancel(), do.Restore())


def _queue(state: Deployment, event: on.Assigned) -> Stepped:
    if event.attempt.seq <= state.seq:
        return state, ()
    refused = state.blame is not None and _same_wish(attempt_of(state), event.attempt)
    if refused and state.queued is None:
        return replace(state, seq=event.attempt.seq, attempt=event.attempt), ()
    queued = replace(state, seq=event.attempt.seq, queued=event.attempt)
    if state.queued is None or _same_wish(state.queued, event.attempt):
        return queued, ()
    return queued, (superseded(state, state.queued, event.attempt),)


def _adopt(state: Deployment, attempt: Attempt) -> Stepped:
    """The same release under a newer seq: the running phase goes on, on the new one's account."""
    adopted = replace(state, seq=attempt.seq, attempt=attempt)
    if _same_wish(attempt_of(state), attempt):
        return adopted, ()
    return adopted, (report(adopted),)


def _same_wish(old: Attempt, new: Attempt) -> bool:
    """Whether the hub wants nothing else of this family than it did.

    The rollout's name alone does not tell: a hub that was restored from a backup gives it again,
    and one rollout may ask a device twice, which was removed in between. The deadline is set each
    time that something is asked for, and stays while only the number grows.
    """
    a, b = old.wanted, new.wanted
    same = (a.target, a.digest, a.mode) == (b.target, b.digest, b.mode)
    return same and (a.rollout, a.deadline_ms) == (b.rollout, b.deadline_ms)


def _same(state: Deployment, attempt: Attempt) -> bool:
    old, new = attempt_of(state).wanted, attempt.wanted
    return (old.target, old.digest) == (new.target, new.digest)


def _is(serving: Serving, attempt: Attempt) -> bool:
    """A digest under another release's name was never vouched for, whatever serves."""
    wanted = attempt.wanted
    return (serving.target, serving.digest) == (wanted.target, wanted.digest)


# --- forward ------------------------------------------------------------------------------------


def _fetched(state: Deployment, event: on.Fetched) -> Stepped:
    return _enter(
        with_figures(state, event.figures, variant=event.variant), Stage.VERIFYING, do.Verify()
    )


def _verified(state: Deployment, event: on.Verified) -> Stepped:
    return _enter(with_figures(state, event.figures), Stage.STAGED, do.Admit())


def _admitted(state: Deployment, event: on.Admitted) -> Stepped:
    return _enter(state, Stage.TRIAL, do.Try())


def _trial_passed(state: Deployment, event: on.TrialPassed) -> Stepped:
    tried = with_figures(state, event.figures, trial_p95_ms=event.p95_ms)
    if attempt_of(state).wanted.mode is Mode.SHADOW:
        return _enter(tried, Stage.SHADOW, do.LoadBeside())
    return _enter(tried, Stage.ACTIVATING, do.Activate())


def _activated(state: Deployment, event: on.Activated) -> Stepped:
    """Whatever served before stands behind the candidate from now on."""
    candidate = candidate_of(state)
    earlier = [] if state.serving is None else [state.serving]
    behind = [s for s in (*earlier, *state.fallbacks) if s.digest != candidate.digest]
    active = with_figures(
        state,
        event.figures,
        serving=candidate,
        fallbacks=tuple(behind[:KEPT_FALLBACKS]),
        baseline=event.baseline,
    )
    return _enter(active, Stage.PROBATION, do.Watch())


def _proven(state: Deployment, event: on.Proven) -> Stepped:
    serving = None if state.serving is None else replace(state.serving, proven=True)
    proven = with_figures(state, event.figures, serving=serving)
    return settle(proven, Stage.COMMITTED, Outcome.SUCCEEDED, at_ms=event.at_ms)


def _unproven(state: Deployment, event: on.Unproven) -> Stepped:
    return settle(
        with_figures(state, event.figures),
        Stage.COMMITTED,
        Outcome.UNPROVEN,
        Cause.NO_EVIDENCE,
        event.detail,
        event.at_ms,
    )


# --- what goes wrong ----------------------------------------------------------------------------


def _fetch_failed(state: Deployment, event: on.Failed) -> Stepped:
    """What may pass is tried again; it is told once a cause, not once a try.

    A try that failed in good order was no crash: a device may boot any number of times out of
    reach of its broker.
    """
    if event.cause not in PASSING:
        return _failed(state, event)
    waiting = with_figures(
        state,
        event.figures,
        retries=state.retries + 1,
        waits_for=event.cause,
        waits_why=clip(event.detail),
        goes_on=False,
        boots=0,
    )
    least = RARELY if event.cause is Cause.METERED else 0
    retry = do.RetryLater(tries=max(least, waiting.retries))
    if event.cause is state.waits_for:
        return waiting, (retry,)
    return waiting, (report(waiting, None, event.cause, event.detail), retry)


def _failed(state: Deployment, event: on.Failed) -> Stepped:
    return _end(with_figures(state, event.figures), event.cause, event.detail, event.at_ms)


def _end(state: Deployment, cause: Cause, detail: str, at_ms: int) -> Stepped:
    """Over, and what serves was never touched."""
    if cause in REFUSALS:
        return settle(state, Stage.REJECTED, Outcome.REJECTED, cause, detail, at_ms)
    return settle(state, Stage.FAILED, Outcome.FAILED_UNCHANGED, cause, detail, at_ms)


def _deadline(state: Deployment, event: on.DeadlinePassed) -> Stepped:
    cause = None if state.goes_on else state.waits_for
    waits = "" if cause is None else f", waiting because of {cause.value}"
    detail = f"the deadline passed in {state.stage.value}{waits}"
    ended, effects = _end(state, Cause.DEADLINE, detail, event.at_ms)
    return ended, (do.Cancel(), *effects)


def _activation_failed(state: Deployment, event: on.Failed) -> Stepped:
    return _go_back(with_figures(state, event.figures), event.cause, event.detail)


def _unwell(state: Deployment, event: on.Unwell) -> Stepped:
    return _go_back(with_figures(state, event.figures), event.cause, event.detail)


def _server_died(state: Deployment, event: on.ServerDied) -> Stepped:
    crashed = replace(state, crashes=state.crashes + 1)
    if crashed.crashes >= MAX_CRASHES:
        detail = f"the inference server died {crashed.crashes} times; {event.detail}"
        return _go_back(crashed, Cause.CRASHED, detail)
    return crashed, (report(crashed, None, Cause.CRASHED, event.detail),)


# --- back ---------------------------------------------------------------------------------------


def _go_back(state: Deployment, cause: Cause, detail: str) -> Stepped:
    back = replace(_back(state), blame=Blame(Outcome.ROLLED_BACK, cause, clip(detail)))
    return back, (report(back, None, cause, detail), do.Restore())


def _back(state: Deployment) -> Deployment:
    """RESTORING: while ACTIVATING, `serving` still names the old one; later the next in line."""
    if state.stage is Stage.ACTIVATING:
        return replace(state, stage=Stage.RESTORING, boots=0)
    next_in_line = state.fallbacks[0] if state.fallbacks else None
    return replace(
        state,
        stage=Stage.RESTORING,
        boots=0,
        serving=next_in_line,
        fallbacks=state.fallbacks[1:],
    )


def _restored(state: Deployment, event: on.Restored) -> Stepped:
    blame = state.blame
    if blame is None:
        return _take_queued(state, (), event.at_ms)
    detail = blame.detail
    if state.serving is None:
        detail = clip("no release before this one, so nothing is served; " + detail)
    back = with_figures(state, event.figures)
    settled, effects = settle(
        back, Stage.ROLLED_BACK, blame.outcome, blame.cause, detail, event.at_ms
    )
    return _take_queued(replace(settled, hold=True), effects, event.at_ms)


def _restore_failed(state: Deployment, event: on.Failed) -> Stepped:
    """Serving.json names the right release, so the server's next boot may yet heal this."""
    why = "" if state.blame is None else f"; it went back because of: {state.blame.detail}"
    settled, effects = settle(
        state,
        Stage.FAILED,
        Outcome.ROLLBACK_FAILED,
        event.cause,
        clip(f"could not go back: {event.detail}{why}"),
        event.at_ms,
    )
    return _take_queued(replace(settled, hold=True), effects, event.at_ms)


def _take_queued(state: Deployment, effects: tuple[do.Effect, ...], at_ms: int) -> Stepped:
    if state.queued is None:
        return state, effects
    begun, further = _begin(state, state.queued, at_ms)
    return begun, (*effects, *further)


def _roll_back(state: Deployment, event: on.RollbackAsked) -> Stepped:
    """Asked for by an operator. A committed release with nothing behind it stays."""
    if state.stage is Stage.COMMITTED and not state.fallbacks:
        return state, ()
    if state.stage in (Stage.COMMITTED, Stage.ACTIVATING, Stage.PROBATION):
        back, effects = _go_back(state, event.cause, event.detail)
        return back, (do.Cancel(), *effects)
    ended, effects = settle(
        state, Stage.FAILED, Outcome.FAILED_UNCHANGED, event.cause, event.detail, event.at_ms
    )
    return replace(ended, hold=True), (do.Cancel(), *effects)


def _release_hold(state: Deployment, event: on.HoldReleased) -> Stepped:
    return replace(state, hold=False), ()


# --- boots --------------------------------------------------------------------------------------


def _settle_again(state: Deployment, event: on.Resumed) -> Stepped:
    return state, (do.Settle(), do.Tidy())


def _resume_with(*effects: do.Effect) -> Handler:
    """The journalled stage's effect again, but not for ever."""

    def resume(state: Deployment, event: on.Resumed) -> Stepped:
        counted = replace(state, boots=state.boots + 1)
        if counted.boots <= MAX_BOOTS:
            return counted, effects
        detail = f"{counted.boots} boots in {state.stage.value} without progress"
        if state.stage in (Stage.ACTIVATING, Stage.PROBATION):
            return _go_back(counted, Cause.CRASH_LOOP, detail)
        return _end(counted, Cause.CRASH_LOOP, detail, event.at_ms)

    return resume


def _resume_uncounted(*effects: do.Effect) -> Handler:
    """A shadow may outlive any number of boots, and going back is never given up."""
    return lambda state, event: (state, effects)


def _progressed(state: Deployment, event: on.Progressed) -> Stepped:
    watched = state.watched_ms + event.watched_ms
    return replace(state, boots=0, watched_ms=watched, goes_on=state.waits_for is not None), ()


# --- pieces -------------------------------------------------------------------------------------


def _enter(state: Deployment, stage: Stage, effect: do.Effect) -> Stepped:
    after = replace(state, stage=stage, boots=0, retries=0, waits_for=None, goes_on=False)
    return after, (effect,)


# --- the table ----------------------------------------------------------------------------------

_S = Stage
_PREPARING = frozenset({_S.FETCHING, _S.VERIFYING, _S.STAGED, _S.TRIAL})
_SWITCHED = frozenset({_S.ACTIVATING, _S.PROBATION})
_ALL = frozenset(Stage)

ROWS: tuple[tuple[type[on.Event], frozenset[Stage], Handler], ...] = (
    (on.Assigned, SETTLED, _take_up),
    (on.Assigned, _PREPARING, _supersede),
    (on.Assigned, frozenset({_S.SHADOW}), _supersede_shadow),
    (on.Assigned, _SWITCHED, _supersede_active),
    (on.Assigned, frozenset({_S.RESTORING}), _queue),
    (on.Resumed, SETTLED, _settle_again),
    (on.Resumed, frozenset({_S.FETCHING}), _resume_with(do.Fetch())),
    (on.Resumed, frozenset({_S.VERIFYING}), _resume_with(do.Verify())),
    (on.Resumed, frozenset({_S.STAGED}), _resume_with(do.Admit())),
    (on.Resumed, frozenset({_S.TRIAL}), _resume_with(do.Try())),
    (on.Resumed, frozenset({_S.SHADOW}), _resume_uncounted(do.LoadBeside())),
    (on.Resumed, frozenset({_S.ACTIVATING}), _resume_with(do.Activate())),
    (on.Resumed, frozenset({_S.PROBATION}), _resume_with(do.Watch())),
    (on.Resumed, frozenset({_S.RESTORING}), _resume_uncounted(do.Restore())),
    (on.Progressed, frozenset({_S.FETCHING, _S.PROBATION}), _progressed),
    (on.Fetched, frozenset({_S.FETCHING}), _fetched),
    (on.Verified, frozenset({_S.VERIFYING}), _verified),
    (on.Admitted, frozenset({_S.STAGED}), _admitted),
    (on.TrialPassed, frozenset({_S.TRIAL}), _trial_passed),
    (on.Activated, frozenset({_S.ACTIVATING}), _activated),
    (on.Proven, frozenset({_S.PROBATION}), _proven),
    (on.Unproven, frozenset({_S.PROBATION}), _unproven),
    (on.Unwell, frozenset({_S.PROBATION}), _unwell),
    (on.ServerDied, frozenset({_S.PROBATION}), _server_died),
    (on.Failed, frozenset({_S.FETCHING}), _fetch_failed),
    (on.Failed, frozenset({_S.VERIFYING, _S.STAGED, _S.TRIAL, _S.SHADOW}), _failed),
    (on.Failed, frozenset({_S.ACTIVATING}), _activation_failed),
    (on.Failed, frozenset({_S.RESTORING}), _restore_failed),
    (on.RetryDue, frozenset({_S.FETCHING}), lambda state, event: (state, (do.Fetch(),))),
    (on.Restored, frozenset({_S.RESTORING}), _restored),
    (on.DeadlinePassed, _PREPARING, _deadline),
    (on.RollbackAsked, _PREPARING | {_S.SHADOW, _S.COMMITTED} | _SWITCHED, _roll_back),
    (on.HoldReleased, _ALL, _release_hold),
)

_LATE = "the result of an effect that was overtaken"
_UNWATCHED = "no candidate is on probation"

IGNORED: tuple[tuple[type[on.Event], frozenset[Stage], str], ...] = (
    (on.Progressed, _ALL - {_S.FETCHING, _S.PROBATION}, _LATE),
    (on.Fetched, _ALL - {_S.FETCHING}, _LATE),
    (on.Verified, _ALL - {_S.VERIFYING}, _LATE),
    (on.Admitted, _ALL - {_S.STAGED}, _LATE),
    (on.TrialPassed, _ALL - {_S.TRIAL}, _LATE),
    (on.Activated, _ALL - {_S.ACTIVATING}, _LATE),
    (on.Restored, _ALL - {_S.RESTORING}, _LATE),
    (on.Failed, SETTLED, _LATE),
    (on.Failed, frozenset({_S.PROBATION}), "the live stream is judged, not an effect"),
    (on.RetryDue, _ALL - {_S.FETCHING}, "a wait that was overtaken"),
    (on.Proven, _ALL - {_S.PROBATION}, _UNWATCHED),
    (on.Unproven, _ALL - {_S.PROBATION}, _UNWATCHED),
    (on.Unwell, _ALL - {_S.PROBATION}, _UNWATCHED),
    (on.ServerDied, _ALL - {_S.PROBATION}, _UNWATCHED + "; the server restarts by itself"),
    (on.DeadlinePassed, SETTLED | _SWITCHED, "it serves, or is over: only the hub counts it"),
    (on.DeadlinePassed, frozenset({_S.SHADOW, _S.RESTORING}), "neither is on its way to serve"),
    (on.RollbackAsked, SETTLED - {_S.COMMITTED}, "nothing of this attempt serves"),
    (on.RollbackAsked, frozenset({_S.RESTORING}), "it goes back already"),
)
"""What an event means where TABLE has no row for it: nothing, and why."""


def _cells() -> Iterator[tuple[tuple[Stage, type[on.Event]], Handler]]:
    for event, stages, handler in ROWS:
        for stage in stages:
            yield (stage, event), handler


TABLE: dict[tuple[Stage, type[on.Event]], Handler] = dict(_cells())
