"""The floor of the trusted clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.trust.clock import next_floor, trusted_now

times = st.integers(min_value=0, max_value=1 << 50)


def test_a_clock_behind_the_floor_is_lifted_to_it() -> None:
    assert trusted_now(0, 5_000) == 5_000


def test_a_clock_ahead_of_the_floor_is_believed() -> None:
    assert trusted_now(9_000, 5_000) == 9_000


def test_the_floor_rises_to_the_time_of_issue() -> None:
    assert next_floor(1_000, 2_000, 50_000, [90_000]) == 50_000


def test_the_floor_stays_before_the_earliest_expiry() -> None:
    assert next_floor(1_000, 2_000, 500_000, [90_000, 70_000]) == 69_000


@given(floor=times, build=times, issued=times, expiries=st.lists(times, min_size=1))
def test_the_floor_never_falls(floor: int, build: int, issued: int, expiries: list[int]) -> None:
    assert next_floor(floor, build, issued, expiries) >= floor


@given(build=times, issued=times, expiries=st.lists(times, min_size=1))
def test_a_first_floor_expires_nothing_that_was_good(
    build: int, issued: int, expiries: list[int]
) -> None:
    floor = next_floor(0, build, issued, expiries)

    assert floor == 0 or all(floor < expiry for expiry in expiries)
