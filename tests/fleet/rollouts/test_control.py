"""Pause, resume, abort, rollback, and devices that come later."""

from __future__ import annotations

import pytest

from fleet.devices import remove_device
from fleet.rollouts.control import abort, pause, resume
from fleet.rollouts.engine import tick
from fleet.rollouts.errors import (
    InvalidRollout,
    NothingToRollBack,
    RolloutNotFound,
    RolloutState,
)
from fleet.rollouts.rollback import roll_back
from fleet.rollouts.views import OnFailure
from tests.fleet.rollouts.simulated_fleet import FAILS, ROLLS_BACK, SILENT, UNPROVEN
from tests.fleet.rollouts.stored_fleet import StoredFleet


def started(six: StoredFleet) -> str:
    """digits:2 on one device, which has succeeded and soaks."""
    rollout = six.start("2", waves=["1", "3", "6"], soak_s=1_000)
    tick(six.hub, six.clock())
    six.step()
    return rollout


def test_pause_says_what_happens_and_nothing_more_is_assigned(six: StoredFleet) -> None:
    rollout = started(six)
    told = pause(six.hub, rollout, "ops")
    assert (told.done.count, told.under_way.count, told.unaware.count) == (1, 0, 5)
    assert "until the rollout is resumed" in told.words
    for _ in range(5):
        six.step(1_000)
    assert list(six.assigned().values()).count("digits/2") == 1
    resume(six.hub, rollout, "ops")
    assert six.run(rollout, after_s=1_001) == "completed"


def test_abort_leaves_what_is_served_and_what_is_under_way(six: StoredFleet) -> None:
    six.devices["cam-0"].behaviour = SILENT
    rollout = six.start("2", waves=["100%"])
    tick(six.hub, six.clock())
    six.step()
    told = abort(six.hub, rollout, "ops")
    assert (told.done.count, told.under_way.count) == (5, 1)
    assert "outrider rollback" in told.words
    six.devices["cam-0"].behaviour = "good"
    six.step()
    assert set(six.served().values()) == {"digits/2"}
    assert six.rows(rollout)["cam-0"].outcome == "succeeded"
    assert six.rollout(rollout).status == "aborted"


def test_resuming_after_a_failed_gate_accepts_what_failed_and_no_more(six: StoredFleet) -> None:
    for name in ("cam-0", "cam-1", "cam-2"):
        six.devices[name].behaviour = FAILS
    rollout = six.start("2", waves=["100%"], on_failure=OnFailure.PAUSE, soak_s=0)
    assert six.run(rollout) == "paused"
    told = resume(six.hub, rollout, "ops")
    assert "3 failures accepted (cam-0, cam-1, cam-2)" in told.words
    assert six.run(rollout) == "completed"


def test_resuming_can_accept_unproven_devices(six: StoredFleet) -> None:
    for device in six.devices.values():
        device.behaviour = UNPROVEN
    rollout = six.start("2", waves=["100%"], soak_s=0)
    assert six.run(rollout) == "paused"
    resume(six.hub, rollout, "ops")
    assert six.run(rollout) == "paused"
    told = resume(six.hub, rollout, "ops", accept_unproven=True)
    assert "unproven devices count as successes" in told.words.lower()
    assert six.run(rollout) == "completed"


def test_a_rollout_that_is_over_cannot_be_steered(six: StoredFleet) -> None:
    for verb in (pause, resume, abort):
        with pytest.raises(RolloutState, match="is completed; only one that is"):
            verb(six.hub, "r1", "ops")
        with pytest.raises(RolloutNotFound):
            verb(six.hub, "r99", "ops")


def test_rollback_takes_every_device_to_what_it_had_before(six: StoredFleet) -> None:
    six.run(six.start("2", waves=["100%"], soak_s=0))
    assert set(six.served().values()) == {"digits/2"}
    rollout = roll_back(six.hub, "digits", "all", "ops")
    assert six.run(rollout) == "completed"
    assert set(six.served().values()) == {"digits/1"}
    rows = six.rows(rollout).values()
    assert {(row.status, row.outcome) for row in rows} == {("reverted", "succeeded")}
    assert six.actions(rollout) == ["revert", "restored"]


def test_rolling_back_twice_never_brings_the_release_back_that_was_left(
    six: StoredFleet,
) -> None:
    six.run(six.start("2", waves=["100%"], soak_s=0))
    six.run(roll_back(six.hub, "digits", "all", "ops"))
    with pytest.raises(NothingToRollBack, match="before digits:1"):
        roll_back(six.hub, "digits", "all", "ops")


def test_rollback_in_the_middle_aborts_the_rollout_and_touches_only_those_it_reached(
    six: StoredFleet,
) -> None:
    under_way = started(six)
    before = six.seqs()
    rollout = roll_back(six.hub, "digits", "all", "ops")
    assert six.rollout(under_way).status == "aborted"
    assert f"rollback {rollout}" in six.rollout(under_way).reason
    assert sum(seq != before[name] for name, seq in six.seqs().items()) == 1
    assert six.run(rollout) == "completed"
    assert set(six.served().values()) == {"digits/1"}


def test_rollback_right_after_the_start_aborts_the_rollout_and_takes_nothing_back(
    six: StoredFleet,
) -> None:
    assert six.run(six.start("2", waves=["100%"], soak_s=0)) == "completed"
    six.publish("3")
    begun = six.start("3", waves=["1", "6"])
    before = six.seqs()
    assert roll_back(six.hub, "digits", "all", "ops") == begun
    assert six.rollout(begun).status == "aborted"
    assert "reached no device yet" in six.rollout(begun).reason
    assert six.seqs() == before
    six.step()
    assert set(six.served().values()) == {"digits/2"}
    assert six.run(roll_back(six.hub, "digits", "all", "ops")) == "completed"
    assert set(six.served().values()) == {"digits/1"}


def test_rollback_of_a_first_release_aborts_its_rollout(stored: StoredFleet) -> None:
    stored.publish("1")
    stored.enrol("cam-0", "cam-1")
    begun = stored.start("1", waves=["1", "2"], soak_s=1_000)
    tick(stored.hub, stored.clock())
    stored.step()
    assert roll_back(stored.hub, "digits", "all", "ops") == begun
    assert stored.rollout(begun).status == "aborted"
    assert "nothing was served before" in stored.rollout(begun).reason
    for _ in range(3):
        stored.step(1_001)
    assert len(stored.assigned()) == 1


def test_rollback_of_one_device_ends_the_rollouts_that_wait_for_it_and_names_them(
    six: StoredFleet,
) -> None:
    first = six.start("2", selector="name=cam-1", waves=["1"])
    second = six.start("2", selector="name=cam-2", waves=["1"])
    other = six.start("2", selector="name=cam-3", waves=["1"])
    with pytest.raises(NothingToRollBack):
        roll_back(six.hub, "digits", "name=cam-4", "ops")
    assert roll_back(six.hub, "digits", "name=cam-1", "ops") == first
    assert (six.rollout(first).status, six.rollout(second).status) == ("aborted", "running")
    assert roll_back(six.hub, "digits", "all", "ops") == second
    assert other in six.rollout(second).reason
    assert six.rollout(other).status == "aborted"


def test_a_rollout_that_goes_back_by_itself_is_not_aborted_by_a_rollback(
    six: StoredFleet,
) -> None:
    for device in six.devices.values():
        device.behaviour = ROLLS_BACK
    begun = six.start("2", waves=["1"], deadline_s=10_000)
    tick(six.hub, six.clock())
    for _ in range(10):
        if six.rollout(begun).status == "reverting":
            break
        six.step()
    assert six.rollout(begun).status == "reverting"
    with pytest.raises(NothingToRollBack):
        roll_back(six.hub, "digits", "all", "ops")
    assert six.rollout(begun).status == "reverting"


def test_rollback_of_some_devices_leaves_the_others(six: StoredFleet) -> None:
    six.run(six.start("2", waves=["100%"], soak_s=0))
    rollout = roll_back(six.hub, "digits", "name=cam-2", "ops")
    assert six.run(rollout) == "completed"
    assert sorted(n for n, target in six.served().items() if target == "digits/1") == ["cam-2"]


def test_a_rollback_ends_although_a_device_is_silent_and_says_so(six: StoredFleet) -> None:
    six.run(six.start("2", waves=["100%"], soak_s=0))
    six.devices["cam-4"].behaviour = SILENT
    rollout = roll_back(six.hub, "digits", "all", "ops")
    assert six.run(rollout, after_s=1_000) == "completed"
    assert "cam-4" in six.rollout(rollout).reason
    six.devices["cam-4"].behaviour = "good"
    six.step()
    six.step()
    assert six.rows(rollout)["cam-4"].status == "reverted"


def test_what_cannot_be_rolled_back(six: StoredFleet) -> None:
    with pytest.raises(NothingToRollBack):
        roll_back(six.hub, "digits", "all", "ops")
    with pytest.raises(NothingToRollBack, match="nobody serves words"):
        roll_back(six.hub, "words", "all", "ops")
    with pytest.raises(InvalidRollout):
        roll_back(six.hub, "../etc", "all", "ops")


def test_a_device_that_enrols_later_receives_its_groups_release(six: StoredFleet) -> None:
    six.run(six.start("2", waves=["100%"], soak_s=0))
    six.enrol("cam-late")
    six.step()
    six.step()
    six.step()
    assert six.served()["cam-late"] == "digits/2"
    row = six.rows("r2")["cam-late"]
    assert (row.outcome, row.status) == ("succeeded", "done")
    assert six.actions("r2")[-1] == "join"


def test_a_device_that_enrols_during_a_rollout_waits_for_its_end(six: StoredFleet) -> None:
    rollout = started(six)
    six.enrol("cam-late")
    six.step()
    assert six.assigned()["cam-late"] == "digits/1"
    assert "cam-late" not in six.rows(rollout)
    assert six.run(rollout, after_s=1_001) == "completed"
    six.step()
    assert six.assigned()["cam-late"] == "digits/2"


def test_a_newcomer_does_not_receive_a_release_that_was_rolled_back(six: StoredFleet) -> None:
    six.run(six.start("2", waves=["100%"], soak_s=0))
    six.run(roll_back(six.hub, "digits", "all", "ops"))
    six.enrol("cam-late")
    six.step()
    assert six.assigned()["cam-late"] == "digits/1"


def test_a_newcomer_during_a_rollback_does_not_receive_what_is_being_left(
    six: StoredFleet,
) -> None:
    six.bad = ""
    assert six.run(six.start("2", waves=["100%"], soak_s=0)) == "completed"
    rollback = roll_back(six.hub, "digits", "all", "test")
    six.enrol("late")
    tick(six.hub, six.clock())
    assert six.rollout(rollback).status == "reverting"
    assert six.assigned()["late"] == "digits/1"


def test_a_newcomer_does_not_receive_what_was_taken_back_or_aborted(six: StoredFleet) -> None:
    for device in six.devices.values():
        device.behaviour = ROLLS_BACK
    assert six.run(six.start("2", waves=["1"])) == "reverted"
    six.enrol("cam-late")
    six.step()
    assert six.assigned()["cam-late"] == "digits/1"


def test_a_device_that_was_removed_and_enrols_again_is_a_newcomer(six: StoredFleet) -> None:
    remove_device(six.hub, "cam-0")
    six.clock.now_ms += 1_000
    six.enrol("cam-0")
    six.step()
    assert six.assigned()["cam-0"] == "digits/1"


def test_a_newcomer_outside_the_selector_receives_nothing(stored: StoredFleet) -> None:
    stored.publish("1")
    stored.enrol("cam-0", site="lyon")
    stored.run(stored.start("1", selector="site=lyon", waves=["100%"], soak_s=0))
    stored.enrol("cam-1", site="paris")
    stored.step()
    assert "cam-1" not in stored.assigned()
