"""Latency counts add exactly, and give quantiles within a quarter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import MalformedCounts
from model.latency import BINS, BOUNDS_MS, LatencyCounts, difference, merged, quantile
from tests.model.builders import rng

LATENCIES = st.lists(st.floats(0, 1e6), max_size=50)


def _counts(latencies: list[float]) -> LatencyCounts:
    found = LatencyCounts()
    for ms in latencies:
        found.add(ms)
    return found


def test_the_bins_are_the_wires() -> None:
    assert BINS == 64
    assert BOUNDS_MS[:4] == (0.05, 0.0625, 0.078125, 0.09765625)
    assert BOUNDS_MS[-1] == pytest.approx(50_978.9, abs=0.1)


def test_nothing_counted_has_quantile_zero() -> None:
    assert LatencyCounts().quantile(0.5) == 0.0
    assert quantile([], 0.95) == 0.0


def test_a_bound_belongs_to_the_bin_below_it() -> None:
    assert _counts([0.05]).counts()[0] == 1
    assert _counts([0.0500001]).counts()[1] == 1


def test_zero_and_beyond_the_last_bound_are_counted() -> None:
    counts = _counts([0.0, 1e9, float("inf"), float("nan")]).counts()
    assert counts[0] == 1
    assert counts[-1] == 3


def test_quantiles_are_within_a_quarter_of_the_exact_ones() -> None:
    latencies = rng().lognormal(1.0, 0.8, 5_000)
    counts = _counts(latencies.tolist())
    for q in (0.05, 0.5, 0.95, 0.99):
        exact = float(np.quantile(latencies, q))
        assert counts.quantile(q) == pytest.approx(exact, rel=0.25)


def test_quantiles_ascend() -> None:
    counts = _counts([0.06, 0.3, 0.3, 7.0, 1e9])
    found = [counts.quantile(q / 20) for q in range(21)]
    assert found == sorted(found)
    assert found[-1] == BOUNDS_MS[-1]


@given(LATENCIES, LATENCIES)
def test_merging_is_counting_together(first: list[float], second: list[float]) -> None:
    together = _counts(first + second).counts()
    found = _counts(first)
    found.merge(_counts(second).counts())
    assert found.counts() == together == merged(_counts(first).counts(), _counts(second).counts())
    assert difference(together, _counts(first).counts()) == _counts(second).counts()


def test_counts_may_be_taken_up_again() -> None:
    assert LatencyCounts(_counts([1.0, 2.0]).counts()).counts() == _counts([1.0, 2.0]).counts()
    assert merged([], []) == [0] * BINS


def test_the_returned_counts_are_a_copy() -> None:
    found = _counts([1.0])
    found.counts()[0] = 99
    assert sum(found.counts()) == 1


def test_counts_of_other_bins_are_refused() -> None:
    for call in (
        lambda: quantile([1], 0.5),
        lambda: merged([1] * 63, []),
        lambda: LatencyCounts([1]),
    ):
        with pytest.raises(MalformedCounts, match="must be 64"):
            call()


def test_counts_that_fell_are_refused() -> None:
    with pytest.raises(MalformedCounts, match="not of the same life"):
        difference(_counts([1.0]).counts(), _counts([1.0, 1.0]).counts())
