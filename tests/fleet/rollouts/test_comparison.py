"""Canaries against their reference: which one, which limits, and what is too little to say."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from contract.messages import ProbationPolicy
from fleet.rollouts.comparison import MIN_CONTROL, Comparison, compare, distance
from fleet.rollouts.traffic import Figures, Traffic
from fleet.rollouts.views import DeviceStatus, DeviceView, Progress
from tests.fleet.rollouts.simulated_fleet import figures

POLICY = ProbationPolicy()


def canary(candidate: Figures, previous: Figures | None = None) -> DeviceView:
    return DeviceView(
        progress=Progress(device="cam-0", position=0, wave=0, status=DeviceStatus.SERVING),
        traffic=Traffic(candidate=candidate, previous=previous or Figures()),
    )


def control(count: int, each: Figures | None = None) -> list[DeviceView]:
    return [
        DeviceView(
            progress=Progress(device=f"c-{n}", position=n + 1, wave=1),
            traffic=Traffic(control=each or figures()),
        )
        for n in range(count)
    ]


def failing(found: Comparison) -> list[str]:
    return [check.name for check in found.failing()]


def test_ten_held_back_devices_are_the_reference() -> None:
    found = compare([canary(figures(), figures(errors=500)), *control(MIN_CONTROL)], POLICY)
    assert found.against == "control"
    assert "10 held-back control devices" in found.words
    assert failing(found) == []


def test_with_fewer_it_is_the_canarys_own_previous_release_and_says_so() -> None:
    found = compare([canary(figures(), figures()), *control(MIN_CONTROL - 1)], POLICY)
    assert found.against == "own-previous"
    assert "previous release on 1 of the same devices" in found.words
    assert "9 control devices with traffic, 10 needed" in found.words


def test_without_either_there_are_absolute_limits_and_it_says_so() -> None:
    found = compare([canary(figures(errors=50))], POLICY)
    assert found.against == "limits"
    assert "absolute limits only" in found.words
    assert failing(found) == ["error-rate"]


def test_control_devices_without_traffic_are_none() -> None:
    silent = control(MIN_CONTROL, Figures())
    assert compare([canary(figures()), *silent], POLICY).against == "limits"


LIKE = figures()


@pytest.mark.parametrize(
    ("name", "candidate"),
    [
        ("error-rate", replace(LIKE, errors=20)),
        ("invalid-rate", replace(LIKE, invalid=20)),
        ("latency-p95-ratio", figures(latency_bin=30)),
        ("class-mix", replace(LIKE, classes=[700, 300, *[0] * 8])),
        ("input-out-of-range", figures(outside=400)),
    ],
)
def test_each_difference_fails_its_check_and_no_other(name: str, candidate: Figures) -> None:
    found = compare([canary(candidate), *control(MIN_CONTROL)], POLICY)
    assert failing(found) == [name]
    assert all(check.words for check in found.checks)


def test_a_collapse_onto_one_class_fails_without_any_reference() -> None:
    collapsed = replace(LIKE, classes=[990, 10, *[0] * 8])
    assert failing(compare([canary(collapsed)], POLICY)) == ["class-share"]


def test_one_class_is_no_collapse_where_it_was_so_before() -> None:
    usual = replace(LIKE, classes=[990, 10, *[0] * 8])
    assert failing(compare([canary(usual, usual)], POLICY)) == []


def test_errors_that_the_control_has_too_are_not_the_releases() -> None:
    found = compare([canary(figures(errors=55)), *control(10, figures(errors=50))], POLICY)
    assert failing(found) == []


def test_two_errors_are_too_few_to_condemn_a_release() -> None:
    assert failing(compare([canary(figures(inferences=60, errors=2))], POLICY)) == []


def test_a_tenth_of_a_millisecond_is_not_slow_whatever_the_ratio() -> None:
    quick, slower = figures(latency_bin=1), figures(latency_bin=8)
    assert failing(compare([canary(slower, quick)], POLICY)) == []


def test_too_few_samples_are_not_judged_and_say_so() -> None:
    found = compare([canary(figures(inferences=10, errors=10, classes=[10]))], POLICY)
    assert failing(found) == []
    assert all("not judged" in check.words for check in found.checks)


def test_accepted_checks_no_longer_fail() -> None:
    found = compare([canary(figures(errors=50, invalid=50))], POLICY)
    assert [check.name for check in found.failing(["error-rate"])] == ["invalid-rate"]


def test_distance_is_total_variation() -> None:
    assert distance([1, 1], [10, 10]) == 0
    assert distance([1, 0], [0, 7]) == 1
    assert distance([3, 1], [1, 1]) == pytest.approx(0.25)
