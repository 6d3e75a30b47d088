"""Which range is chosen out of a distribution."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from converter.quantisation.histogram import Histogram
from converter.quantisation.thresholds import Method, choose_range
from tests.converter import models

METHODS: tuple[Method, ...] = get_args(Method)


def of(values: object) -> Histogram:
    histogram = Histogram()
    histogram.observe(np.asarray(values, np.float32))
    return histogram


def error(values: models.Array, low: float, high: float) -> float:
    """Mean squared error of eight bits in that range."""
    step = (high - low) / 255
    rounded = np.round(np.clip(values, low, high) / step) * step
    return float(np.square(rounded - values).mean())


def test_minimum_and_maximum_are_exact() -> None:
    found = choose_range(of([-1.25, 7.5]), "minmax")
    assert (found.low, found.high) == (-1.25, 7.5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [[3.0, 9.0], [-3.0, -9.0], [0.0, 0.0]])
def test_zero_is_always_inside(method: Method, values: list[float]) -> None:
    found = choose_range(of(values), method)
    assert found.low <= 0.0 <= found.high


@pytest.mark.parametrize("method", METHODS)
def test_no_range_is_wider_than_what_was_seen(method: Method) -> None:
    histogram = of(models.rng().normal(0, 3, 10_000))
    found = choose_range(histogram, method)
    assert histogram.low <= found.low < 0 < found.high <= histogram.high


@pytest.mark.parametrize(("method", "share"), [("p99.9", 0.001), ("p99.99", 0.0001)])
def test_a_percentile_leaves_out_its_share_at_either_end(method: Method, share: float) -> None:
    values = models.rng().normal(0, 1, 200_000).astype(np.float32)
    histogram = Histogram()
    for part in np.array_split(values, 20):
        histogram.observe(part)
    found = choose_range(histogram, method)
    assert (values > found.high).mean() == pytest.approx(share, rel=0.35)
    assert (values < found.low).mean() == pytest.approx(share, rel=0.35)


def test_least_error_clips_a_long_thin_tail() -> None:
    histogram = Histogram()
    for part in np.array_split(models.rng().laplace(0, 1, 400_000).astype(np.float32), 10):
        histogram.observe(part)
    assert choose_range(histogram, "mse").high < 0.9 * histogram.high


def test_least_error_is_no_worse_than_the_whole_range() -> None:
    values = models.rng().standard_t(3, 60_000).astype(np.float32)
    histogram = of(values)
    whole, best = choose_range(histogram, "minmax"), choose_range(histogram, "mse")
    assert error(values, best.low, best.high) < error(values, whole.low, whole.high)


def test_an_even_distribution_is_not_clipped() -> None:
    histogram = of(np.linspace(0, 1, 50_000))
    assert choose_range(histogram, "mse").high == pytest.approx(1.0, abs=0.06)
