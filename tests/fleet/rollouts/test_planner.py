"""Rollouts as stories: simulated devices, no clock, no database."""

from __future__ import annotations

from msgspec.structs import replace

from contract.deployments import Cause, Outcome
from fleet.rollouts import planner as do
from fleet.rollouts.planner import plan
from fleet.rollouts.traffic import Traffic
from fleet.rollouts.views import DeviceStatus, OnFailure, Status
from tests.fleet.rollouts.simulated_fleet import (
    FAILS,
    LIAR,
    NEW,
    OLD,
    REJECTS,
    ROLLS_BACK,
    SILENT,
    SLOW,
    UNPROVEN,
    Fleet,
    figures,
    fleet,
)


def kinds(decisions: list[do.Decision]) -> list[str]:
    return [type(decision).__name__ for decision in decisions]


def test_a_good_release_goes_out_wave_by_wave_and_completes() -> None:
    world = fleet(6)
    world.run()
    assert kinds(world.decisions) == [
        "Assign",
        "Advance",
        "Assign",
        "Advance",
        "Assign",
        "Complete",
    ]
    assigned = [len(d.devices) for d in world.decisions if isinstance(d, do.Assign)]
    assert assigned == [1, 2, 3]
    assert all(device.serving == NEW for device in world.devices.values())
    assert world.view.status is Status.COMPLETED


def test_a_wave_soaks_before_the_next_one() -> None:
    world = fleet(6)
    world.step(0)
    world.step(0)
    assert kinds(world.step(9.9)) == []
    assert kinds(world.step(0.1)) == ["Advance", "Assign"]


def test_a_canary_that_rolls_back_takes_the_release_back_and_nobody_else_is_touched() -> None:
    world = fleet(6, ROLLS_BACK)
    world.run()
    assert kinds(world.decisions) == ["Assign", "DeviceFailed", "Revert", "Restored"]
    assert world.view.status is Status.REVERTED
    assert sorted(d.seen for d in world.devices.values()) == [[]] * 5 + [["digits/2", "digits/1"]]
    canary = world.progress(world.canary().name)
    assert (canary.status, canary.outcome) == (DeviceStatus.REVERTED, Outcome.ROLLED_BACK)
    assert (canary.cause, canary.detail) == (Cause.CLASS_COLLAPSE, "97 % are class 3")
    revert = next(d for d in world.decisions if isinstance(d, do.Revert))
    assert "97 % are class 3" in revert.reason
    assert "1 device to go back, 5 never touched" in revert.reason


def test_a_later_wave_that_fails_takes_back_the_earlier_ones_too() -> None:
    world = fleet(6)
    for device in world.at(2):
        device.behaviour = FAILS
    world.run()
    assert world.view.status is Status.REVERTED
    assert {device.serving for device in world.devices.values()} == {OLD}
    assert world.statuses() == {DeviceStatus.REVERTED: 6}


def test_on_failure_pause_leaves_everything_as_it_is() -> None:
    world = fleet(6, REJECTS, on_failure=OnFailure.PAUSE)
    world.run()
    assert kinds(world.decisions) == ["Assign", "DeviceFailed", "Pause"]
    assert world.view.status is Status.PAUSED
    assert world.statuses()[DeviceStatus.WAITING] == 5


def test_a_paused_rollout_assigns_nothing_and_goes_on_counting() -> None:
    world = fleet(6)
    world.step()
    world.view = replace(world.view, status=Status.PAUSED)
    before = list(world.given)
    for _ in range(50):
        world.step(10)
    assert world.given == before
    assert world.progress(world.canary().name).outcome is Outcome.SUCCEEDED
    world.view = replace(world.view, status=Status.RUNNING)
    assert kinds(world.step()) == ["Advance", "Assign"]


def test_silence_counts_as_a_failure_at_the_deadline_and_not_before() -> None:
    world = fleet(6, SILENT)
    world.step(0)
    assert kinds(world.step(99)) == []
    assert kinds(world.step(1)) == ["DeviceFailed", "Revert"]
    assert world.progress(world.canary().name).outcome is Outcome.TIMED_OUT


def test_a_device_that_stays_silent_does_not_keep_the_revert_open_for_ever() -> None:
    world = fleet(6, SILENT)
    world.run()
    assert world.view.status is Status.REVERTED
    restored = world.decisions[-1]
    assert isinstance(restored, do.Restored)
    assert restored.evidence["silent"] == [world.canary().name]


def test_a_slow_device_is_shown_as_serving_until_the_deadline() -> None:
    world = fleet(2, SLOW)
    world.step(0)
    world.step(50)
    assert world.progress(world.canary().name).status is DeviceStatus.SERVING
    world.step(50)
    assert "5 of 100 inferences" in world.progress(world.canary().name).detail


def test_a_device_that_claims_success_and_serves_something_else_times_out() -> None:
    world = fleet(2, LIAR)
    world.run()
    assert world.view.status is Status.REVERTED
    assert "reports succeeded, but serves digits/1" in world.decisions[1].reason


def test_unproven_devices_pause_the_rollout_even_where_failures_revert_it() -> None:
    world = fleet(6, UNPROVEN)
    world.run()
    assert world.view.status is Status.PAUSED
    assert "1 unproven" in world.decisions[-1].reason
    assert world.progress(world.canary().name).outcome is Outcome.UNPROVEN


def test_unproven_devices_are_enough_where_the_operator_says_so() -> None:
    world = fleet(6, UNPROVEN, accept_unproven=True)
    world.run()
    assert world.view.status is Status.COMPLETED


def test_a_success_after_the_deadline_does_not_reopen_the_gate() -> None:
    world = fleet(4, SILENT, on_failure=OnFailure.PAUSE, waves=["1", "100%"])
    world.run()
    canary = world.canary()
    assert world.view.status is Status.PAUSED
    canary.behaviour = "good"
    canary.assign(1, NEW)
    world.step()
    found = world.progress(canary.name)
    assert (found.outcome, found.late_outcome) == (Outcome.TIMED_OUT, Outcome.SUCCEEDED)
    world.view = replace(world.view, status=Status.RUNNING)
    assert kinds(world.step()) == ["Pause"]


def test_a_device_that_another_rollout_took_is_not_taken_back() -> None:
    world = fleet(4, waves=["2", "100%"])
    world.step()
    taken, failing = world.at(0)
    failing.behaviour = ROLLS_BACK
    world.take_over(taken.name)
    world.run()
    assert world.progress(taken.name).outcome is Outcome.SUPERSEDED
    assert world.given.count((taken.name, "digits/1")) == 0
    assert world.given.count((failing.name, "digits/1")) == 1


def test_live_traffic_of_the_canary_can_fail_a_wave_whose_devices_all_succeeded() -> None:
    world = fleet(6)
    world.step()
    world.traffic(world.canary().name, Traffic(candidate=figures(invalid=500)))
    world.run()
    assert world.view.status is Status.REVERTED
    revert = next(d for d in world.decisions if isinstance(d, do.Revert))
    assert "invalid-rate 50.00%" in revert.reason


def test_a_rollout_that_stops_short_of_the_cohort_completes_and_says_how_many_are_left() -> None:
    world = fleet(10, waves=["1", "3"])
    world.run()
    assert world.view.status is Status.COMPLETED
    assert "7 devices not reached" in world.decisions[-1].reason


def test_planning_twice_decides_nothing_twice() -> None:
    world = fleet(6)
    for _ in range(30):
        world.step(5)
        again = plan(world.view, world.now_ms)
        seen = [d for d in again.decisions if isinstance(d, do.Assign)]
        assert not {n for d in seen for n in d.devices} & {name for name, _ in world.given}


def test_a_rollout_that_is_over_decides_nothing() -> None:
    world = fleet(3)
    world.run()
    for status in (Status.COMPLETED, Status.REVERTED, Status.ABORTED):
        assert plan(replace(world.view, status=status), world.now_ms + 10**9).decisions == ()


def test_an_empty_revert_ends_at_once() -> None:
    world = Fleet([], waves=["100%"])
    world.view = replace(world.view, status=Status.REVERTING)
    assert kinds(world.step()) == ["Restored"]
