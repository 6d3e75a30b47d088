"""Percentiles of known latencies, and what is no latency."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.bench.spread import spread_of


def test_a_hundred_and_one_even_latencies_have_their_rank_as_percentile() -> None:
    found = spread_of([float(value) for value in range(101)])
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == (50.0, 95.0, 99.0)
    assert (found.low_ms, found.high_ms, found.mean_ms, found.runs) == (0.0, 100.0, 50.0, 101)


def test_one_latency_is_all_of_its_percentiles() -> None:
    found = spread_of([2.5])
    assert {found.p50_ms, found.p95_ms, found.p99_ms, found.low_ms, found.high_ms} == {2.5}


def test_one_slow_call_moves_the_99th_percentile_and_not_the_median() -> None:
    found = spread_of([1.0] * 50 + [1000.0])
    assert found.p50_ms == 1.0
    assert found.p99_ms > 400


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_percentiles_are_in_order_and_within_the_ends(latencies: list[float]) -> None:
    found = spread_of(latencies)
    ranks = [found.low_ms, found.p50_ms, found.p95_ms, found.p99_ms, found.high_ms]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(ranks))


@pytest.mark.parametrize("latencies", [[], [-1.0], [math.nan], [1.0, math.inf]])
def test_what_is_no_latency_is_refused(latencies: list[float]) -> None:
    with pytest.raises(ValueError, match="latencies must be"):
        spread_of(latencies)
