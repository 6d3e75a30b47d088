"""What holds in every rollout, whatever its devices do and whenever somebody looks."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contract.deployments import FAILURES
from fleet.rollouts.views import UNTOUCHED, DeviceStatus, OnFailure, Status
from tests.fleet.rollouts.simulated_fleet import (
    FAILS,
    GOOD,
    LIAR,
    NEW,
    OLD,
    REJECTS,
    ROLLS_BACK,
    SILENT,
    SLOW,
    UNPROVEN,
    Fleet,
    SimulatedDevice,
)

BEHAVIOURS = st.sampled_from(
    [GOOD, GOOD, GOOD, GOOD, SILENT, SLOW, UNPROVEN, LIAR, ROLLS_BACK, REJECTS, FAILS]
)
WAVES = st.sampled_from([["5%", "25%", "100%"], ["1", "3", "100%"], ["50%"], ["2", "4"]])
RULES = st.sampled_from(["failed>10%", "failed>=1", "failed>3", "failed>50%"])
STEPS = st.lists(st.sampled_from([1.0, 5.0, 20.0, 101.0]), min_size=1, max_size=40)


@st.composite
def worlds(draw: st.DrawFn) -> Fleet:
    behaviours = draw(st.lists(BEHAVIOURS, min_size=1, max_size=14))
    return Fleet(
        [SimulatedDevice(f"cam-{n}", behaviour) for n, behaviour in enumerate(behaviours)],
        waves=draw(WAVES),
        abort_if=draw(RULES),
        on_failure=draw(st.sampled_from(OnFailure)),
        accept_unproven=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(worlds(), STEPS, st.sets(st.integers(0, 39), max_size=6))
def test_no_device_is_given_the_release_twice(
    world: Fleet, steps: list[float], idle: set[int]
) -> None:
    for k, after_s in enumerate(steps):
        world.tick(after_s) if k in idle else world.step(after_s)
    assert not [key for key, n in Counter(world.given).items() if n > 1]


@settings(max_examples=60, deadline=None)
@given(worlds(), STEPS)
def test_waves_are_reached_in_the_cohorts_order(world: Fleet, steps: list[float]) -> None:
    cohort = [d.progress.device for d in world.view.devices]
    for after_s in steps:
        world.step(after_s)
        given_new = [name for name, target in world.given if target == NEW.target]
        assert given_new == cohort[: len(given_new)]
        assert len(given_new) in (0, *world.view.spec.sizes)


@settings(max_examples=60, deadline=None)
@given(worlds(), STEPS, st.integers(0, 39))
def test_a_paused_rollout_gives_nothing_to_anybody(
    world: Fleet, steps: list[float], pause_at: int
) -> None:
    for k, after_s in enumerate(steps):
        if k == pause_at and world.view.status is Status.RUNNING:
            world.view = replace(world.view, status=Status.PAUSED)
        before = len(world.given)
        was_paused = world.view.status is Status.PAUSED
        world.step(after_s)
        assert not was_paused or len(world.given) == before


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_after_a_revert_no_device_that_can_be_reached_has_the_bad_release(world: Fleet) -> None:
    world.run(120, 10)
    if world.view.status is not Status.REVERTED:
        return
    for name, device in world.devices.items():
        if device.behaviour != SILENT:
            assert device.serving == OLD
            assert world.progress(name).status in {DeviceStatus.REVERTED, *UNTOUCHED}


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_every_rollout_comes_to_an_end_or_to_an_operator(world: Fleet) -> None:
    world.run(200, 20)
    assert world.view.status in (Status.COMPLETED, Status.REVERTED, Status.PAUSED)


@settings(max_examples=60, deadline=None)
@given(worlds(), STEPS)
def test_an_outcome_stays_but_for_proof_that_comes_and_success_that_goes(
    world: Fleet, steps: list[float]
) -> None:
    known: dict[str, object] = {}
    for after_s in steps:
        world.step(after_s)
        for device in world.view.devices:
            outcome = device.progress.outcome
            before = known.get(device.progress.device)
            if before in FAILURES:
                assert outcome is before
            known[device.progress.device] = outcome
