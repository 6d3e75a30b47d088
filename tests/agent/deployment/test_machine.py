"""The machine's table, walked: every pair is defined or ignored, and random walks keep to it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.deployment import effects as do
from agent.deployment import events as on
from agent.deployment.machine import IGNORED, MAX_BOOTS, RARELY, ROWS, TABLE, step
from agent.deployment.reporting import family_state
from agent.deployment.state import (
    RUNNING,
    SETTLED,
    Attempt,
    Baseline,
    Deployment,
    Serving,
    Stage,
    decode_deployment,
    encode_deployment,
)
from contract.deployments import Cause, Mode, Outcome
from contract.messages import FamilyAssignment, Waiting

A, B, C = "a" * 64, "b" * 64, "c" * 64


def attempt(
    seq: int,
    digest: str = A,
    mode: Mode = Mode.SERVE,
    rollout: str | None = None,
    deadline_ms: int = 0,
) -> Attempt:
    wanted = FamilyAssignment(
        target=f"digits/{digest[0]}",
        digest=digest,
        rollout=rollout or f"r{seq}",
        mode=mode,
        deadline_ms=deadline_ms,
    )
    return Attempt(seq, wanted)


def serving(digest: str, proven: bool = True) -> Serving:
    return Serving(digest=digest, target=f"digits/{digest[0]}", variant="v", proven=proven)


FRESH = Deployment(family="digits")


class Nothing:
    """A server that serves nothing."""

    def serving(self, _state: Deployment) -> str | None:
        return None

    def good(self, _family: str, _digest: str) -> int:
        return 0


def told(state: Deployment) -> Waiting | msgspec.UnsetType:
    """What it waits for, as the hub learns it."""
    return family_state(state, Nothing()).waits


FORWARD: list[on.Event] = [
    on.Fetched(variant="v"),
    on.Verified(),
    on.Admitted(),
    on.TrialPassed(p95_ms=1.0),
    on.Activated(baseline=Baseline()),
    on.Proven(),
]
STAGES = [Stage.FETCHING, Stage.VERIFYING, Stage.STAGED, Stage.TRIAL, Stage.ACTIVATING]


def walk(state: Deployment, *events: on.Event) -> tuple[Deployment, tuple[do.Effect, ...]]:
    effects: tuple[do.Effect, ...] = ()
    for event in events:
        state, effects = step(state, event)
    return state, effects


def at(stage: Stage, state: Deployment = FRESH, digest: str = A, seq: int = 1) -> Deployment:
    """A deployment that came to `stage` on the straight way."""
    state, _ = step(state, on.Assigned(attempt=attempt(seq, digest)))
    for event in FORWARD:
        if state.stage is stage:
            break
        state, _ = step(state, event)
    assert state.stage is stage
    return state


def outcome(effects: tuple[do.Effect, ...]) -> list[tuple[str, Outcome | None, Cause | None]]:
    return [(e.digest, e.outcome, e.cause) for e in effects if isinstance(e, do.Report)]


def kinds(effects: tuple[do.Effect, ...]) -> list[type[do.Effect]]:
    return [type(e) for e in effects if not isinstance(e, do.Report)]


# --- the table ----------------------------------------------------------------------------------


def test_every_pair_is_either_in_the_table_or_ignored_on_purpose() -> None:
    ignored = {(stage, event) for event, stages, _ in IGNORED for stage in stages}
    every = {(stage, event) for stage in Stage for event in on.EVENTS}
    assert TABLE.keys() | ignored == every
    assert not TABLE.keys() & ignored


def test_no_pair_stands_twice() -> None:
    assert sum(len(stages) for _, stages, _ in ROWS) == len(TABLE)
    assert sum(len(stages) for _, stages, _ in IGNORED) == len(
        {(stage, event) for event, stages, _ in IGNORED for stage in stages}
    )


def test_every_ignored_pair_changes_nothing() -> None:
    for event_type, stages, _ in IGNORED:
        for stage in stages:
            before = replace(FRESH, stage=stage, attempt=attempt(1), seq=1)
            assert step(before, EXAMPLES[event_type]) == (before, ())


def test_every_event_has_an_example() -> None:
    assert EXAMPLES.keys() == set(on.EVENTS)


EXAMPLES: dict[type[on.Event], on.Event] = {
    on.Assigned: on.Assigned(attempt=attempt(9, C)),
    on.Resumed: on.Resumed(),
    on.Progressed: on.Progressed(),
    on.Fetched: on.Fetched(variant="v"),
    on.Verified: on.Verified(),
    on.Admitted: on.Admitted(),
    on.TrialPassed: on.TrialPassed(p95_ms=1.0),
    on.Activated: on.Activated(baseline=Baseline()),
    on.Failed: on.Failed(cause=Cause.TAMPERED),
    on.RetryDue: on.RetryDue(),
    on.ServerDied: on.ServerDied(),
    on.Proven: on.Proven(),
    on.Unproven: on.Unproven(),
    on.Unwell: on.Unwell(cause=Cause.CLASS_COLLAPSE),
    on.Restored: on.Restored(),
    on.DeadlinePassed: on.DeadlinePassed(),
    on.RollbackAsked: on.RollbackAsked(cause=Cause.OPERATOR),
    on.HoldReleased: on.HoldReleased(),
}


# --- forward ------------------------------------------------------------------------------------


def test_the_straight_way_asks_for_one_effect_a_stage() -> None:
    state, effects = step(FRESH, on.Assigned(attempt=attempt(1)))
    asked = [kinds(effects)]
    for event in FORWARD:
        state, effects = step(state, event)
        asked.append(kinds(effects))
    assert asked == [
        [do.Fetch],
        [do.Verify],
        [do.Admit],
        [do.Try],
        [do.Activate],
        [do.Watch],
        [do.Settle, do.Tidy],
    ]
    assert state.stage is Stage.COMMITTED
    assert state.serving == serving(A)


def test_every_change_of_stage_is_reported_first() -> None:
    state = FRESH
    for event in [on.Assigned(attempt=attempt(1)), *FORWARD]:
        state, effects = step(state, event)
        assert isinstance(effects[0], do.Report)
        assert effects[0].stage is state.stage


def test_what_served_before_stands_behind_the_new_one_at_most_two_deep() -> None:
    state = FRESH
    for seq, digest in enumerate((A, B, C, "d" * 64), start=1):
        state = at(Stage.COMMITTED, state, digest, seq)
    assert state.serving == serving("d" * 64)
    assert [s.digest for s in state.fallbacks] == [C, B]


def test_going_forward_to_an_older_release_does_not_list_it_twice() -> None:
    state = FRESH
    for seq, digest in enumerate((A, B, A), start=1):
        state = at(Stage.COMMITTED, state, digest, seq)
    assert [s.digest for s in state.fallbacks] == [B]


def test_a_shadow_is_loaded_beside_and_activated_only_when_it_is_to_serve() -> None:
    state, effects = walk(FRESH, on.Assigned(attempt=attempt(1, mode=Mode.SHADOW)), *FORWARD[:4])
    assert (state.stage, kinds(effects)) == (Stage.SHADOW, [do.LoadBeside])
    state, effects = step(state, on.Assigned(attempt=attempt(2)))
    assert (state.stage, kinds(effects)) == (Stage.ACTIVATING, [do.Activate])


def test_figures_add_up_or_are_replaced_and_are_always_numbers() -> None:
    state, _ = walk(
        at(Stage.FETCHING),
        on.Failed(cause=Cause.TRANSPORT, figures={"bytes_fetched": 10.0, "bytes_full": 90.0}),
        on.Fetched(variant="v", figures={"bytes_fetched": 5.0, "bytes_full": 80.0}),
    )
    assert state.figures == {"bytes_fetched": 15.0, "bytes_full": 80.0}
    state, _ = step(state, on.Verified(figures={"odd": float("nan"), "huge": float("inf")}))
    assert state.figures == {"bytes_fetched": 15.0, "bytes_full": 80.0}


# --- terminal results ---------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [s for s in Stage if s in SETTLED])
def test_a_settled_deployment_does_not_try_the_same_seq_again(stage: Stage) -> None:
    state = replace(FRESH, stage=stage, seq=5, attempt=attempt(5))
    for seq in (4, 5):
        assert step(state, on.Assigned(attempt=attempt(seq, B))) == (state, ())
    again, effects = step(state, on.Assigned(attempt=attempt(6)))
    assert (again.stage, kinds(effects)) == (Stage.FETCHING, [do.Fetch])


@pytest.mark.parametrize(
    ("cause", "stage", "told"),
    [
        (Cause.UNTRUSTED, Stage.REJECTED, Outcome.REJECTED),
        (Cause.TAMPERED, Stage.REJECTED, Outcome.REJECTED),
        (Cause.MALFORMED, Stage.REJECTED, Outcome.REJECTED),
        (Cause.POLICY, Stage.REJECTED, Outcome.REJECTED),
        (Cause.ROLLBACK, Stage.REJECTED, Outcome.REJECTED),
        (Cause.DISK_FULL, Stage.FAILED, Outcome.FAILED_UNCHANGED),
        (Cause.INCOMPATIBLE, Stage.FAILED, Outcome.FAILED_UNCHANGED),
        (Cause.INTERNAL, Stage.FAILED, Outcome.FAILED_UNCHANGED),
    ],
)
def test_a_cause_decides_between_rejected_and_failed(
    cause: Cause, stage: Stage, told: Outcome
) -> None:
    state, effects = step(at(Stage.FETCHING), on.Failed(cause=cause, detail="why"))
    assert state.stage is stage
    assert outcome(effects) == [(A, told, cause)]
    assert state.last is not None
    assert (state.last.seq, state.last.digest, state.last.detail) == (1, A, "why")


@pytest.mark.parametrize("cause", [Cause.TRANSPORT, Cause.STALE])
def test_what_may_pass_is_retried_and_told_once(cause: Cause) -> None:
    state, effects = step(at(Stage.FETCHING), on.Failed(cause=cause))
    assert state.stage is Stage.FETCHING
    assert outcome(effects) == [(A, None, cause)]
    assert effects[-1] == do.RetryLater(tries=1)
    state, effects = walk(state, on.RetryDue(), on.Failed(cause=cause))
    assert effects == (do.RetryLater(tries=2),)


def test_what_costs_too_much_waits_is_told_once_and_looked_at_rarely() -> None:
    failed = on.Failed(cause=Cause.METERED, detail="9 bytes, allowed are 5")
    state, effects = step(at(Stage.FETCHING), failed)
    assert (state.stage, state.waits_why) == (Stage.FETCHING, "9 bytes, allowed are 5")
    assert outcome(effects) == [(A, None, Cause.METERED)]
    assert effects[-1] == do.RetryLater(tries=RARELY)
    state, effects = walk(state, on.RetryDue(), failed)
    assert effects == (do.RetryLater(tries=RARELY),)
    allowed, _ = walk(state, on.RetryDue(), on.Fetched(variant="v"))
    assert (allowed.stage, allowed.waits_for) == (Stage.VERIFYING, None)


def test_another_budget_for_the_same_release_is_looked_at_at_once() -> None:
    def bounded(seq: int, most: int) -> on.Assigned:
        plain = attempt(seq)
        wanted = replace(plain.wanted, metered_bytes=most)
        return on.Assigned(attempt=replace(plain, wanted=wanted))

    waiting, _ = walk(FRESH, bounded(1, 5), on.Failed(cause=Cause.METERED))
    for most in (50, 2):
        again, effects = step(waiting, bounded(2, most))
        assert (again.stage, again.seq) == (Stage.FETCHING, 2)
        assert kinds(effects)[-2:] == [do.Cancel, do.Fetch]
        assert again.run > waiting.run  # what the earlier fetch says is stale
    _, effects = step(waiting, bounded(2, 5))
    assert do.Fetch not in kinds(effects)


def test_a_fetch_that_goes_on_waits_for_nothing_until_it_fails_again() -> None:
    """And a link that is cut after each chunk is told of once."""
    cut = on.Failed(cause=Cause.TRANSPORT, detail="cut")
    waiting, _ = step(at(Stage.FETCHING), cut)
    assert told(waiting) == Waiting(Cause.TRANSPORT, "cut")
    asking, _ = step(waiting, on.RetryDue())
    assert told(asking) == Waiting(Cause.TRANSPORT, "cut")
    coming, _ = step(asking, on.Progressed())
    assert told(coming) is msgspec.UNSET
    late, _ = step(coming, on.DeadlinePassed())
    assert late.last is not None
    assert late.last.detail == "the deadline passed in fetching"
    again, effects = step(coming, cut)
    assert told(again) == Waiting(Cause.TRANSPORT, "cut")
    assert kinds(effects) == [do.RetryLater]


@pytest.mark.parametrize("cause", [Cause.TRANSPORT, Cause.METERED])
def test_what_a_fetch_waits_for_is_never_too_long_for_journal_and_wire(cause: Cause) -> None:
    """A peer may have chosen the words; a row that cannot be read stops the next start."""
    waiting, _ = step(at(Stage.FETCHING), on.Failed(cause=cause, detail="x" * 70_000))
    assert decode_deployment(encode_deployment(waiting)) == waiting
    assert msgspec.convert(msgspec.to_builtins(told(waiting)), Waiting) == told(waiting)


def test_a_deadline_names_what_was_waited_for() -> None:
    state, _ = walk(at(Stage.FETCHING), on.Failed(cause=Cause.METERED), on.DeadlinePassed())
    assert state.stage is Stage.FAILED
    assert state.last is not None
    assert state.last.detail == "the deadline passed in fetching, waiting because of metered"


@pytest.mark.parametrize("stage", STAGES[:4])
def test_a_deadline_stops_what_does_not_serve_yet(stage: Stage) -> None:
    state, effects = step(at(stage), on.DeadlinePassed())
    assert state.stage is Stage.FAILED
    assert outcome(effects) == [(A, Outcome.FAILED_UNCHANGED, Cause.DEADLINE)]
    assert kinds(effects)[0] is do.Cancel


# --- back ---------------------------------------------------------------------------------------


def test_an_unwell_candidate_goes_back_and_holds() -> None:
    before = at(Stage.PROBATION, at(Stage.COMMITTED), B, 2)
    state, effects = step(before, on.Unwell(cause=Cause.CLASS_COLLAPSE, detail="96 %"))
    assert (state.stage, kinds(effects)) == (Stage.RESTORING, [do.Restore])
    assert state.serving == serving(A)
    state, effects = step(state, on.Restored())
    assert state.stage is Stage.ROLLED_BACK
    assert outcome(effects) == [(B, Outcome.ROLLED_BACK, Cause.CLASS_COLLAPSE)]
    assert state.hold
    assert state.serving == serving(A)


def test_a_way_back_that_fails_is_told_with_both_causes() -> None:
    before = at(Stage.PROBATION, at(Stage.COMMITTED), B, 2)
    state, effects = walk(
        before,
        on.Unwell(cause=Cause.LATENCY, detail="slow"),
        on.Failed(cause=Cause.CRASHED, detail="no server"),
    )
    assert state.stage is Stage.FAILED
    assert outcome(effects) == [(B, Outcome.ROLLBACK_FAILED, Cause.CRASHED)]
    assert state.last is not None
    assert "no server" in state.last.detail
    assert "slow" in state.last.detail


def test_a_failed_activation_goes_back_to_what_served() -> None:
    before = at(Stage.ACTIVATING, at(Stage.COMMITTED), B, 2)
    state, _ = step(before, on.Failed(cause=Cause.OUT_OF_MEMORY))
    assert state.stage is Stage.RESTORING
    assert state.serving == serving(A)
    assert state.fallbacks == ()


def test_a_hold_ends_by_its_release_or_a_new_seq() -> None:
    held, _ = walk(
        at(Stage.PROBATION, at(Stage.COMMITTED), B, 2),
        on.Unwell(cause=Cause.LATENCY),
        on.Restored(),
    )
    assert held.hold
    released, effects = step(held, on.HoldReleased())
    assert not released.hold
    assert effects == ()
    assert step(released, on.Assigned(attempt=attempt(2, B))) == (released, ())
    again, _ = step(held, on.Assigned(attempt=attempt(3, B)))
    assert not again.hold
    assert again.stage is Stage.FETCHING


def test_the_hub_assigning_what_serves_again_after_a_rollback_succeeds_at_once() -> None:
    held, _ = walk(
        at(Stage.PROBATION, at(Stage.COMMITTED), B, 2),
        on.Unwell(cause=Cause.LATENCY),
        on.Restored(),
    )
    state, effects = step(held, on.Assigned(attempt=attempt(3, A)))
    assert state.stage is Stage.COMMITTED
    assert outcome(effects) == [(A, Outcome.SUCCEEDED, None)]


def test_two_deaths_of_the_server_condemn_a_candidate_one_does_not() -> None:
    before = at(Stage.PROBATION, at(Stage.COMMITTED), B, 2)
    once, effects = step(before, on.ServerDied(detail="again"))
    assert once.stage is Stage.PROBATION
    assert outcome(effects) == [(B, None, Cause.CRASHED)]
    twice, _ = step(once, on.ServerDied())
    assert twice.stage is Stage.RESTORING


def test_an_operator_stops_what_is_under_way() -> None:
    for stage in STAGES[:4]:
        state, effects = step(at(stage), on.RollbackAsked(cause=Cause.OPERATOR))
        assert state.stage is Stage.FAILED
        assert state.hold
        assert kinds(effects)[0] is do.Cancel


# --- superseding --------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES[:4])
def test_another_digest_supersedes_what_is_under_way(stage: Stage) -> None:
    state, effects = step(at(stage), on.Assigned(attempt=attempt(2, B)))
    assert outcome(effects)[0] == (A, Outcome.SUPERSEDED, None)
    assert kinds(effects) == [do.Cancel, do.Settle, do.Tidy, do.Fetch]
    assert (state.stage, state.seq) == (Stage.FETCHING, 2)


@pytest.mark.parametrize("stage", [*STAGES, Stage.PROBATION])
def test_the_same_digest_goes_on_under_the_newer_seq(stage: Stage) -> None:
    before = at(stage)
    state, effects = step(before, on.Assigned(attempt=attempt(2)))
    assert (state.stage, state.seq) == (stage, 2)
    assert kinds(effects) == []
    assert state.run == before.run, "the effect under way still counts"
    reports = [e for e in effects if isinstance(e, do.Report)]
    assert [(r.seq, r.rollout, r.outcome) for r in reports] == [(2, "r2", None)]


@pytest.mark.parametrize("stage", [Stage.ACTIVATING, Stage.PROBATION])
def test_what_may_serve_already_goes_back_before_the_next(stage: Stage) -> None:
    before = at(stage, at(Stage.COMMITTED), B, 2)
    state, effects = step(before, on.Assigned(attempt=attempt(3, C)))
    assert outcome(effects) == [(B, Outcome.SUPERSEDED, None)]
    assert (state.stage, kinds(effects)) == (Stage.RESTORING, [do.Cancel, do.Restore])
    state, _ = step(state, on.Restored())
    assert (state.stage, state.serving) == (Stage.FETCHING, serving(A))
    assert state.attempt == attempt(3, C)


def test_a_first_release_on_probation_stays_until_the_next_takes_its_place() -> None:
    state, effects = step(at(Stage.PROBATION), on.Assigned(attempt=attempt(2, B)))
    assert state.stage is Stage.FETCHING
    assert state.serving == serving(A, proven=False)
    assert do.Restore not in kinds(effects)


def test_only_the_last_of_several_that_wait_is_taken_up() -> None:
    before = at(Stage.PROBATION, at(Stage.COMMITTED), B, 2)
    state, _ = walk(before, on.Unwell(cause=Cause.LATENCY))
    state, effects = step(state, on.Assigned(attempt=attempt(3, B)))
    assert effects == ()
    state, effects = step(state, on.Assigned(attempt=attempt(4, C)))
    assert outcome(effects) == [(B, Outcome.SUPERSEDED, None)]
    state, effects = step(state, on.Restored())
    assert outcome(effects)[0] == (B, Outcome.ROLLED_BACK, Cause.LATENCY)
    assert (state.stage, state.attempt) == (Stage.FETCHING, attempt(4, C))


# --- a seq that grew for another family's sake --------------------------------------------------


@pytest.mark.parametrize("stage", [*STAGES, Stage.PROBATION, Stage.COMMITTED])
def test_the_same_wish_of_the_same_rollout_is_taken_note_of_and_no_more(stage: Stage) -> None:
    before = at(stage)
    state, effects = step(before, on.Assigned(attempt=attempt(2, A, rollout="r1")))
    assert (state.stage, state.seq, state.run) == (stage, 2, before.run)
    assert effects == ()


def test_a_hold_outlives_a_seq_that_grew_for_another_family() -> None:
    held, _ = walk(
        at(Stage.PROBATION, at(Stage.COMMITTED), B, 2),
        on.Unwell(cause=Cause.LATENCY),
        on.Assigned(attempt=attempt(3, B, rollout="r2")),
        on.Restored(),
        on.Assigned(attempt=attempt(4, B, rollout="r2")),
    )
    assert (held.stage, held.seq, held.hold) == (Stage.ROLLED_BACK, 4, True)
    again, _ = step(held, on.Assigned(attempt=attempt(5, B, rollout="r5")))
    assert (again.stage, again.hold) == (Stage.FETCHING, False)


def test_a_rollout_s_name_that_is_given_again_is_a_wish_of_its_own() -> None:
    """As by a hub that was restored from a backup: it has to be answered, or it would wait."""
    held, _ = walk(
        at(Stage.PROBATION, at(Stage.COMMITTED), B, 2),
        on.Unwell(cause=Cause.LATENCY),
        on.Restored(),
    )
    again, _ = step(held, on.Assigned(attempt=attempt(3, B, rollout="r2", deadline_ms=9_000)))
    assert (again.stage, again.hold) == (Stage.FETCHING, False)


def test_what_serves_is_told_again_to_the_rollout_that_asks_again() -> None:
    """A device that was removed and added again, with its disk as it was."""
    state, effects = step(
        at(Stage.COMMITTED), on.Assigned(attempt=attempt(2, A, rollout="r1", deadline_ms=9_000))
    )
    assert outcome(effects) == [(A, Outcome.SUCCEEDED, None)]
    assert state.last is not None
    assert state.last.seq == 2


def test_what_waits_for_the_way_back_is_not_superseded_by_itself() -> None:
    state, _ = walk(
        at(Stage.PROBATION, at(Stage.COMMITTED), B, 2),
        on.Unwell(cause=Cause.LATENCY),
        on.Assigned(attempt=attempt(3, C)),
    )
    state, effects = step(state, on.Assigned(attempt=attempt(4, C, rollout="r3")))
    assert effects == ()
    assert state.queued == attempt(4, C, rollout="r3")


# --- boots --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "effect"),
    [
        (Stage.FETCHING, do.Fetch),
        (Stage.VERIFYING, do.Verify),
        (Stage.STAGED, do.Admit),
        (Stage.TRIAL, do.Try),
        (Stage.ACTIVATING, do.Activate),
        (Stage.PROBATION, do.Watch),
    ],
)
def test_a_boot_takes_the_stage_up_again_but_not_for_ever(
    stage: Stage, effect: type[do.Effect]
) -> None:
    state = at(stage, at(Stage.COMMITTED), B, 2)
    for _ in range(MAX_BOOTS):
        state, effects = step(state, on.Resumed())
        assert (state.stage, kinds(effects)) == (stage, [effect])
    state, _ = step(state, on.Resumed())
    if stage in (Stage.ACTIVATING, Stage.PROBATION):
        assert state.stage is Stage.RESTORING
        state, _ = step(state, on.Restored())
    assert state.stage in (Stage.FAILED, Stage.ROLLED_BACK)
    assert state.last is not None
    assert state.last.cause is Cause.CRASH_LOOP
    assert state.serving == serving(A)


def test_a_device_out_of_reach_of_its_broker_may_boot_any_number_of_times() -> None:
    state = at(Stage.FETCHING)
    for _ in range(5 * MAX_BOOTS):
        state, _ = walk(state, on.Resumed(), on.Failed(cause=Cause.TRANSPORT))
    assert state.stage is Stage.FETCHING


def test_what_serves_only_in_the_journal_is_fetched_again_and_no_success() -> None:
    state = Deployment(family="digits", serving=serving(A), seq=1)
    after, effects = step(state, on.Assigned(attempt=attempt(2, A), elsewhere=True))
    assert after.stage is Stage.FETCHING
    assert do.Fetch in kinds(effects)
    assert after.serving == serving(A)


def test_progress_makes_earlier_boots_forgotten() -> None:
    state = at(Stage.FETCHING)
    for _ in range(3 * MAX_BOOTS):
        state, _ = walk(state, on.Resumed(), on.Progressed())
    assert state.stage is Stage.FETCHING


def test_going_back_is_never_given_up_by_boots() -> None:
    state, _ = step(at(Stage.PROBATION, at(Stage.COMMITTED), B, 2), on.Unwell(cause=Cause.LATENCY))
    for _ in range(5 * MAX_BOOTS):
        state, effects = step(state, on.Resumed())
        assert kinds(effects) == [do.Restore]


# --- random walks -------------------------------------------------------------------------------

EVENTS = st.one_of(
    st.builds(
        on.Assigned,
        attempt=st.builds(
            attempt,
            st.integers(1, 12),
            st.sampled_from([A, B, C]),
            st.sampled_from([Mode.SERVE, Mode.SERVE, Mode.SHADOW]),
            st.sampled_from([None, "r1"]),
        ),
    ),
    st.builds(on.Failed, cause=st.sampled_from(Cause), detail=st.text(max_size=700)),
    st.builds(on.Unwell, cause=st.sampled_from(Cause), detail=st.text(max_size=700)),
    st.sampled_from(list(EXAMPLES.values())),
    st.sampled_from([*FORWARD, *FORWARD, on.Restored()]),
)


def has_been_proven(state: Deployment) -> bool:
    return any(s is not None and s.proven for s in (state.serving, *state.fallbacks))


@settings(max_examples=400, deadline=None)
@given(st.lists(EVENTS, max_size=60))
def test_random_walks_keep_the_rules(events: list[on.Event]) -> None:
    state, proven = FRESH, False
    for event in events:
        after, effects = step(state, event)
        check_step(state, event, after, effects)
        state = after
        proven = proven or has_been_proven(state)
        assert state.serving is not None or not proven, "nothing serves after a proven release"
        assert decode_deployment(encode_deployment(state)) == state


def check_step(
    before: Deployment, event: on.Event, after: Deployment, effects: tuple[do.Effect, ...]
) -> None:
    assert after.seq >= before.seq
    assert (after.queued is None) or after.stage is Stage.RESTORING
    assert (after.attempt is None) == (after.stage is Stage.IDLE)
    if before.stage in SETTLED and after.stage in RUNNING:
        started = isinstance(event, on.Assigned) and event.attempt.seq > before.seq
        assert started or isinstance(event, on.RollbackAsked), "terminal stays terminal"
    if any(isinstance(e, (do.WorkerEffect, do.Cancel)) for e in effects):
        assert after.run == before.run + 1
    if after.stage is not before.stage:
        assert any(isinstance(e, do.Report) for e in effects)
    ends: list[Any] = [e for e in effects if isinstance(e, do.Report) and e.outcome is not None]
    if after.stage in SETTLED and before.stage in RUNNING:
        assert ends
        assert after.last is not None
    behind = [s.digest for s in after.fallbacks]
    assert len(set(behind)) == len(behind) <= 2
    assert after.serving is None or after.serving.digest not in behind
