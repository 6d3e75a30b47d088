"""The streaming histogram: exact ends, counts that survive growth, memory that does not grow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.quantisation.histogram import BINS, COUNTED, Histogram
from tests.converter import models

VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30)


def of(*batches: object) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.observe(np.asarray(batch, np.float32))
    return histogram


def test_the_ends_are_exact() -> None:
    found = of([0.1, -3.7], [12.5, 2])
    assert (found.low, found.high) == (np.float32(-3.7), 12.5)


@given(st.lists(VALUES, min_size=1, max_size=6))
def test_every_value_is_counted_within_two_bins_of_its_place(batches: list[list[float]]) -> None:
    found, seen = (
        of(*batches),
        np.sort(np.concatenate([np.asarray(b, np.float32) for b in batches])),
    )
    assert found.total == found.counts.sum() if seen.any() else True
    if not seen.any():
        return
    assert int(found.counts.sum()) == len(seen)
    width = found.centres[1] - found.centres[0]
    placed = np.repeat(found.centres, found.counts)
    assert np.abs(placed - seen).max() <= 2 * width


@given(VALUES, VALUES)
def test_merging_is_as_good_as_one_pass(ours: list[float], theirs: list[float]) -> None:
    merged, whole = of(ours).merged(of(theirs)), of(ours, theirs)
    assert (merged.low, merged.high, merged.total) == (whole.low, whole.high, whole.total)
    if merged.counts.any():
        placed = np.repeat(merged.centres, merged.counts)
        expected = np.repeat(whole.centres, whole.counts)
        width = max(h.centres[1] - h.centres[0] for h in (merged, whole))
        assert len(placed) == len(expected)
        assert np.abs(placed - expected).max() <= 2 * width


@given(st.lists(VALUES, min_size=1, max_size=6), VALUES)
def test_without_counts_the_ends_are_the_same(
    batches: list[list[float]], others: list[float]
) -> None:
    bare, other = Histogram(counted=False), Histogram(counted=False)
    for batch in batches:
        bare.observe(np.asarray(batch, np.float32))
    other.observe(np.asarray(others, np.float32))
    full = of(*batches)
    assert (bare.low, bare.high) == (full.low, full.high)
    merged, whole = bare.merged(other), full.merged(of(others))
    assert (merged.low, merged.high) == (whole.low, whole.high)
    assert not bare.counts.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_without_counts_a_value_that_is_not_finite_still_shows(bad: float) -> None:
    bare = Histogram(counted=False)
    bare.observe(np.asarray([1.0, bad], np.float32))
    assert not np.isfinite([bare.low, bare.high]).all()


def test_merging_changes_neither() -> None:
    ours, theirs = of([1.0, 2.0]), of([-50.0])
    ours.merged(theirs)
    assert (ours.low, ours.total, theirs.high, theirs.total) == (1.0, 2, -50.0, 1)


def test_merging_with_nothing_is_the_same() -> None:
    found = of([1.0, 5.0]).merged(Histogram())
    assert (found.low, found.high, found.total) == (1.0, 5.0, 2)


def test_zeros_before_the_first_value_are_kept() -> None:
    found = of([0.0, 0.0], [0.0], [4.0, -4.0])
    width = found.centres[1] - found.centres[0]
    zeros = found.counts[np.abs(found.centres) <= width].sum()
    assert (int(zeros), int(found.counts.sum())) == (3, 5)


def test_the_bins_use_at_least_a_quarter_of_themselves() -> None:
    found = of(models.rng().normal(0, 1, 5000))
    used = np.flatnonzero(found.counts)
    assert used[-1] - used[0] >= BINS // 4


def test_a_far_value_widens_the_bins_and_loses_no_count() -> None:
    found = of(np.linspace(0, 1, 1000), [1e5])
    assert int(found.counts.sum()) == 1001
    assert found.centres[-1] > 1e5


def test_memory_is_that_of_the_bins() -> None:
    found = of(*[models.rng(i).normal(0, i + 1, 1000) for i in range(50)])
    assert found.counts.shape == (BINS,)


def test_of_a_large_batch_an_even_share_is_counted_but_all_of_it_bounds() -> None:
    values = np.zeros(5 * COUNTED, np.float32)
    values[1::2] = 1.0
    values[7] = 9.0
    found = of(values)
    assert found.high == 9.0
    assert found.total <= COUNTED
    ones = found.counts[(found.centres > 0.9) & (found.centres < 1.1)].sum()
    assert ones / found.total == pytest.approx(0.5, abs=0.01)


def test_the_tiniest_values_have_a_place() -> None:
    assert int(of([1e-45, 1e-40]).counts.sum()) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows_in_the_ends(bad: float) -> None:
    found = of([1.0, 2.0], [bad, 1.0])
    assert not np.isfinite([found.low, found.high]).all()
