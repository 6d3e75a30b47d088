"""Backoff: bounded, jittered over its whole range, and safe after any number of failures."""

from __future__ import annotations

from agent.link.backoff import Backoff


def test_the_bound_doubles_up_to_its_limit() -> None:
    backoff = Backoff(first_s=1.0, most_s=10.0)
    assert [backoff.bound(n) for n in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_jitter_covers_everything_from_zero_to_the_bound() -> None:
    backoff = Backoff(first_s=1.0, most_s=60.0)
    assert backoff.delay(3, 0.0) == 0.0
    assert backoff.delay(3, 0.5) == 4.0
    assert backoff.delay(3, 0.999999) < 8.0


def test_a_year_of_failures_is_no_overflow() -> None:
    assert Backoff(1.0, 60.0).bound(10_000_000) == 60.0
    assert Backoff(1.0, 60.0).bound(-1) == 1.0
