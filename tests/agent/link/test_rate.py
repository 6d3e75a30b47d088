"""The token bucket: over any time no more than the rate, and every blob passes in the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.link.rate import BURST_S, TokenBucket

LARGEST = 120 * 1024


def test_without_a_rate_nothing_waits() -> None:
    bucket = TokenBucket()
    for _ in range(1_000):
        assert bucket.may_spend(0.0)
        bucket.spend(LARGEST)


def test_a_blob_larger_than_the_bucket_passes_and_is_paid_off() -> None:
    bucket = TokenBucket(rate=1_000.0)
    assert bucket.may_spend(0.0)
    bucket.spend(LARGEST)
    assert not bucket.may_spend(100.0)
    assert bucket.may_spend(LARGEST / 1_000.0 + 0.1)


def test_what_compression_saved_is_given_back() -> None:
    bucket = TokenBucket(rate=1_000.0)
    assert bucket.may_spend(0.0)
    bucket.spend(2_000)
    assert not bucket.may_spend(0.0)
    bucket.give_back(1_500)
    assert bucket.may_spend(0.0)


def test_a_long_rest_is_no_reason_for_more_than_a_burst() -> None:
    bucket = TokenBucket(rate=1_000.0)
    bucket.may_spend(0.0)
    bucket.may_spend(1e9)
    assert bucket.tokens == 1_000.0 * BURST_S


@given(st.integers(100, 10_000_000), st.lists(st.floats(0, 0.5), min_size=1, max_size=200))
def test_over_any_time_no_more_than_the_rate_a_burst_and_one_blob(
    rate: int, steps: list[float]
) -> None:
    bucket, now, spent = TokenBucket(rate=float(rate)), 0.0, 0
    for step in steps:
        now += step
        while bucket.may_spend(now):
            bucket.spend(20_000)
            spent += 20_000
    assert spent <= rate * (now + BURST_S) * 1.000_001 + 20_000
