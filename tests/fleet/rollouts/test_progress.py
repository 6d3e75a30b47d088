"""One device: what counts as success, failure, silence, and what comes too late."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from contract.deployments import Cause, Evidence, Outcome, Phase
from contract.messages import FamilyState, ProbationPolicy, Result, Waiting
from fleet.rollouts.progress import needed_inferences, observe
from fleet.rollouts.views import DeviceStatus, Kind, Progress, RolloutView, Sighting
from tests.fleet.rollouts.simulated_fleet import NEW, OLD, START_MS, fleet

VIEW = fleet(1).view
ASSIGNED = Progress(
    device="cam-0",
    position=0,
    wave=0,
    status=DeviceStatus.ASSIGNED,
    previous=OLD,
    assigned_seq=5,
    assigned_at_ms=START_MS,
    deadline_ms=START_MS + 100_000,
)


def result(outcome: Outcome, seq: int = 5, digest: str = NEW.digest) -> Result:
    return Result(
        seq=seq, target="digits/2", digest=digest, outcome=outcome, cause=None, detail="why"
    )


def seen(
    serving: str | None = NEW.digest,
    last: Result | None = None,
    good: int = 100,
    seq: int = 5,
    owner: str | None = "r1",
    phase: Phase = Phase.COMMITTED,
) -> Sighting:
    family = FamilyState(
        phase=phase, serving=serving, target="digits/x", good_inferences=good, last=last
    )
    return Sighting(reported_seq=seq, family=family, owner=owner)


def look(
    sighting: Sighting,
    progress: Progress = ASSIGNED,
    after_s: int = 1,
    view: RolloutView = VIEW,
) -> Progress:
    return observe(view, progress, sighting, START_MS + after_s * 1_000)


def test_serving_the_digest_with_enough_good_inferences_is_success() -> None:
    found = look(seen(last=result(Outcome.SUCCEEDED)))
    assert (found.status, found.outcome) == (DeviceStatus.DONE, Outcome.SUCCEEDED)
    assert found.finished_at_ms == START_MS + 1_000


def test_a_claim_of_success_beside_another_digest_is_none() -> None:
    lying = seen(serving=OLD.digest, last=result(Outcome.SUCCEEDED))
    assert look(lying).status is DeviceStatus.ASSIGNED
    late = look(lying, after_s=100)
    assert late.outcome is Outcome.TIMED_OUT
    assert "reports succeeded, but serves" in late.detail


def test_success_without_enough_inferences_waits_for_them() -> None:
    early = look(seen(last=result(Outcome.SUCCEEDED), good=99))
    assert (early.status, early.outcome) == (DeviceStatus.SERVING, None)
    assert early.serving_since_ms == START_MS + 1_000
    assert look(seen(last=result(Outcome.SUCCEEDED), good=100), early).outcome is Outcome.SUCCEEDED


def test_a_device_that_may_prove_by_probes_needs_no_live_inferences() -> None:
    policy = ProbationPolicy(evidence=Evidence.PROBE)
    view = replace(VIEW, spec=replace(VIEW.spec, probation=policy))
    assert needed_inferences(view.spec) == 0
    assert look(seen(last=result(Outcome.SUCCEEDED), good=0), view=view).outcome is (
        Outcome.SUCCEEDED
    )


def test_serving_without_a_result_is_not_done() -> None:
    found = look(seen(phase=Phase.PROBATION))
    assert (found.status, found.phase) == (DeviceStatus.SERVING, "probation")


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.FAILED_UNCHANGED,
        Outcome.ROLLED_BACK,
        Outcome.ROLLBACK_FAILED,
        Outcome.REJECTED,
        Outcome.SUPERSEDED,
    ],
)
def test_other_terminal_results_end_it_with_their_detail(outcome: Outcome) -> None:
    found = look(seen(serving=OLD.digest, last=result(outcome)))
    assert (found.status, found.outcome, found.detail) == (DeviceStatus.DONE, outcome, "why")


def test_unproven_is_shown_as_such() -> None:
    found = look(seen(last=result(Outcome.UNPROVEN), good=2))
    assert (found.status, found.outcome) == (DeviceStatus.DONE, Outcome.UNPROVEN)
    proven = look(seen(last=result(Outcome.SUCCEEDED)), found, 2)
    assert proven.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    "stale",
    [result(Outcome.ROLLED_BACK, seq=4), result(Outcome.ROLLED_BACK, digest=OLD.digest), None],
)
def test_a_result_of_an_older_assignment_or_of_another_digest_says_nothing(
    stale: Result | None,
) -> None:
    found = look(seen(serving=OLD.digest, last=stale, phase=Phase.FETCHING))
    assert (found.status, found.outcome) == (DeviceStatus.ASSIGNED, None)


def test_a_state_from_before_the_assignment_says_nothing() -> None:
    assert look(seen(seq=4)) == ASSIGNED


def test_silence_is_timed_out_at_the_deadline_and_not_before() -> None:
    nothing = Sighting(owner="r1")
    assert look(nothing, after_s=99) == ASSIGNED
    found = look(nothing, after_s=100)
    assert (found.outcome, found.cause) == (Outcome.TIMED_OUT, Cause.DEADLINE)
    assert found.detail.startswith("silent")


@pytest.mark.parametrize(
    ("hearing_since_s", "after_s", "late"),
    [
        (-60, 100, True),  # the hub could hear it all the time
        (None, 9_999, False),  # the hub hears nobody
        (90, 100, False),  # it was deaf in between: the device may be on its way back
        (90, 90 + 179, False),
        (90, 90 + 180, True),
        (5_000, 5_000, False),  # a hub that was down beyond the deadline
    ],
)
def test_silence_that_the_hub_could_not_have_heard_is_no_evidence(
    hearing_since_s: int | None, after_s: int, late: bool
) -> None:
    since_ms = None if hearing_since_s is None else START_MS + hearing_since_s * 1_000
    view = replace(VIEW, hearing_since_ms=since_ms, spec=replace(VIEW.spec, deadline_s=100))
    found = look(Sighting(owner="r1"), after_s=after_s, view=view)
    assert (found.outcome is Outcome.TIMED_OUT) is late


def test_a_success_after_the_deadline_is_recorded_and_changes_nothing() -> None:
    late = look(Sighting(owner="r1"), after_s=100)
    found = look(seen(last=result(Outcome.SUCCEEDED)), late, after_s=200)
    assert found == replace(late, late_outcome=Outcome.SUCCEEDED)
    again = look(seen(last=result(Outcome.ROLLED_BACK)), found, after_s=300)
    assert again == found


@pytest.mark.parametrize("owner", ["r2", None])
def test_a_device_with_a_newer_assignment_is_superseded(owner: str | None) -> None:
    found = look(seen(last=result(Outcome.SUCCEEDED), owner=owner))
    assert (found.status, found.outcome) == (DeviceStatus.DONE, Outcome.SUPERSEDED)


def test_a_removed_device_ends_as_superseded_or_skipped() -> None:
    gone = Sighting(owner=None, revoked=True)
    assert look(gone).outcome is Outcome.SUPERSEDED
    waiting = Progress(device="cam-0", position=0, wave=1)
    assert look(gone, waiting).status is DeviceStatus.SKIPPED


def test_a_device_that_goes_back_after_its_success_has_failed() -> None:
    done = look(seen(last=result(Outcome.SUCCEEDED)))
    known = look(seen(serving=OLD.digest, last=result(Outcome.ROLLED_BACK)), done, 2)
    assert (known.outcome, known.detail) == (Outcome.ROLLED_BACK, "why")
    unknown = look(seen(serving=OLD.digest, last=result(Outcome.SUCCEEDED)), done, 2)
    assert (unknown.outcome, unknown.cause) == (Outcome.ROLLED_BACK, Cause.INTERNAL)
    assert look(seen(last=result(Outcome.SUCCEEDED)), done, 3) == done


REVERTING = replace(
    ASSIGNED, status=DeviceStatus.REVERTING, assigned_seq=9, outcome=Outcome.ROLLED_BACK
)


def test_a_device_is_reverted_when_it_serves_its_previous_release_on_the_new_order() -> None:
    back = result(Outcome.SUCCEEDED, seq=9, digest=OLD.digest)
    assert look(seen(serving=OLD.digest, last=back, seq=8), REVERTING) == REVERTING
    found = look(seen(serving=OLD.digest, last=back, seq=9), REVERTING)
    assert (found.status, found.outcome) == (DeviceStatus.REVERTED, Outcome.ROLLED_BACK)


def test_a_device_that_fetches_its_previous_release_is_not_back_yet() -> None:
    going = seen(serving=OLD.digest, seq=9, phase=Phase.FETCHING)
    assert look(going, REVERTING).status is DeviceStatus.REVERTING


def test_a_device_that_cannot_go_back_says_why() -> None:
    failed = result(Outcome.FAILED_UNCHANGED, seq=9, digest=OLD.digest)
    found = look(seen(last=failed, seq=9), REVERTING)
    assert (found.status, found.detail) == (
        DeviceStatus.REVERTING,
        "could not go back to digits/1: why",
    )


def test_in_a_rollback_going_back_is_the_success() -> None:
    view = replace(VIEW, kind=Kind.ROLLBACK)
    back = result(Outcome.SUCCEEDED, seq=9, digest=OLD.digest)
    start = replace(REVERTING, outcome=None)
    found = look(seen(serving=OLD.digest, last=back, seq=9), start, view=view)
    assert (found.status, found.outcome) == (DeviceStatus.REVERTED, Outcome.SUCCEEDED)


def test_a_reverting_device_that_another_rollout_took_is_let_go() -> None:
    found = look(seen(owner="r2", seq=9), REVERTING)
    assert (found.status, found.outcome) == (DeviceStatus.DONE, Outcome.ROLLED_BACK)


def test_looking_twice_changes_nothing() -> None:
    for sighting in (
        seen(last=result(Outcome.SUCCEEDED)),
        seen(phase=Phase.PROBATION),
        seen(serving=OLD.digest, last=result(Outcome.REJECTED)),
        Sighting(owner="r2"),
    ):
        once = look(sighting)
        assert look(sighting, once) == once


METERED = Waiting(Cause.METERED, "it would cost 9 bytes; allowed are 5")


def fetching(waits: Waiting | None = METERED) -> Sighting:
    found = seen(serving=OLD.digest, phase=Phase.FETCHING)
    assert found.family is not None
    return replace(found, family=replace(found.family, waits=waits or msgspec.UNSET))


def test_what_a_device_waits_for_is_shown_while_it_does() -> None:
    waiting = look(fetching())
    assert (waiting.status, waiting.outcome) == (DeviceStatus.ASSIGNED, None)
    assert (waiting.cause, waiting.detail) == (Cause.METERED, METERED.detail)
    going_on = look(fetching(None), waiting)
    assert (going_on.cause, going_on.detail) == (None, "")


def test_what_a_late_device_waited_for_is_told() -> None:
    late = look(fetching(), after_s=100)
    assert (late.outcome, late.cause) == (Outcome.TIMED_OUT, Cause.DEADLINE)
    assert late.detail == f"still in phase fetching, waiting because of metered: {METERED.detail}"
