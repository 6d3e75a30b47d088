"""Bins part the reference evenly, hold ties together, and never have an edge on a value."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.binning import (
    Binning,
    check_binning,
    equiprobable_edges,
    longest_run,
    reference_binning,
)
from model.errors import MalformedProfile
from tests.model.builders import rng


def _binned(values: list[float], bins: int = 16) -> Binning:
    column = np.array(values, np.float64)
    return reference_binning(column, equiprobable_edges(column[np.isfinite(column)], bins))


def test_distinct_values_fill_the_bins_evenly() -> None:
    found = _binned(rng().normal(size=1_600).tolist())
    assert found.bins == [100] * 16
    assert found.n == 1_600


def test_no_edge_lies_on_a_value() -> None:
    values = rng().integers(0, 9, 500).astype(float).tolist()
    assert not set(_binned(values).edges) & set(values)


def test_a_last_bit_moves_nothing_to_another_bin() -> None:
    values = rng().integers(0, 20, 500) / 7
    edges = equiprobable_edges(values, 16)
    exact = reference_binning(values, edges).bins
    for off in (np.nextafter(values, -np.inf), np.nextafter(values, np.inf)):
        found = reference_binning(off, edges)
        assert found.bins == exact
        assert (off >= found.low).all()


def test_ties_stay_together() -> None:
    found = _binned([0.0] * 90 + [1.0] * 10)
    assert sorted(found.bins, reverse=True)[:2] == [90, 10]


@pytest.mark.parametrize("value", [0.0, -7.0, 1e300, 1e-300])
def test_a_constant_falls_into_one_bin_and_is_in_range(value: float) -> None:
    found = _binned([value] * 20)
    assert found.bins == [20] + [0] * 15
    assert found.low <= value <= found.high


def test_nothing_at_all_can_be_binned() -> None:
    found = _binned([])
    assert (found.n, found.longest_run, sum(found.bins)) == (0, 0, 0)
    check_binning(found, 16, "x")


def test_what_is_not_finite_is_missing() -> None:
    found = _binned([1.0, float("nan"), 2.0, float("inf")])
    assert (found.n, found.missing) == (2, 2)
    assert found.high == pytest.approx(2.0)


def test_the_longest_run_is_of_equal_neighbours() -> None:
    assert longest_run(np.array([1.0, 1.0, 2.0, 2.0, 2.0, 1.0])) == 3
    assert longest_run(np.array([np.nan, np.nan])) == 1
    assert longest_run(np.array([])) == 0


@given(
    st.lists(st.floats(-1e6, 1e6) | st.integers(0, 3).map(float), min_size=1, max_size=80),
    st.sampled_from([16, 17]),
)
def test_any_reference_passes_its_own_check(values: list[float], bins: int) -> None:
    found = _binned(values, bins)
    check_binning(found, bins, "x")
    assert sum(found.bins) == len(values)
    assert found.low <= min(values) <= max(values) <= found.high


GOOD = _binned([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "change",
    [
        {"edges": GOOD.edges[1:]},
        {"bins": GOOD.bins[1:]},
        {"edges": [float("nan")] * 15},
        {"edges": list(range(15, 0, -1))},
        {"low": 5.0},
        {"high": float("inf")},
        {"n": 99},
        {"bins": [-1, 4] + [0] * 14},
    ],
)
def test_a_binning_that_contradicts_itself_is_malformed(change: dict[str, object]) -> None:
    with pytest.raises(MalformedProfile, match="x"):
        check_binning(msgspec.structs.replace(GOOD, **change), 16, "x")
