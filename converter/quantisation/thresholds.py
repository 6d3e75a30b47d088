"""From a distribution to the range that eight bits are spent on. Pure.

Owns the methods: all of it (`minmax`), the range that leaves out a share of the values at both
ends (percentiles), and the range with the least squared error of rounding plus clipping (`mse`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from converter.quantisation.histogram import Histogram
from converter.ranges import Range

Method = Literal["minmax", "p99.999", "p99.99", "p99.9", "mse"]
LEVELS = 256
_SHARES = np.linspace(0.2, 1.0, 17)
"""Of the whole range: what `mse` tries at either end."""


def choose_range(histogram: Histogram, method: Method) -> Range:
    """The range to quantise, which always holds zero: padding and ReLU need it to be exact."""
    low, high = _METHODS[method](histogram)
    return Range(min(low, 0.0), max(high, 0.0))


def _minmax(histogram: Histogram) -> tuple[float, float]:
    return histogram.low, histogram.high


def _percentile(share: float) -> Callable[[Histogram], tuple[float, float]]:
    def find(histogram: Histogram) -> tuple[float, float]:
        counts = histogram.counts
        if not counts.any():
            return _minmax(histogram)
        below = np.cumsum(counts) / counts.sum()
        width = float(histogram.centres[1] - histogram.centres[0])
        low = histogram.centres[int(np.searchsorted(below, 1 - share))] - width / 2
        high = histogram.centres[int(np.searchsorted(below, share))] + width / 2
        return max(float(low), histogram.low), min(float(high), histogram.high)

    return find


def _least_error(histogram: Histogram) -> tuple[float, float]:
    """Both ends are tried by turns: the error is nearly separable in them."""
    lowest, highest = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if lowest == highest:
        return lowest, highest
    found = lowest, highest
    for _ in range(2):
        found = _best(histogram, [(found[0], highest * float(s)) for s in _SHARES])
        if lowest < 0.0:
            found = _best(histogram, [(lowest * float(s), found[1]) for s in _SHARES])
    return found


def _best(histogram: Histogram, tried: list[tuple[float, float]]) -> tuple[float, float]:
    # Ties go to the widest, which comes last.
    return min(reversed(tried), key=lambda ends: _error(histogram, *ends))


def _error(histogram: Histogram, low: float, high: float) -> float:
    """Sum over the counted values of their squared rounding and clipping error."""
    step = (high - low) / (LEVELS - 1)
    centres, counts = histogram.centres, histogram.counts
    beyond = np.maximum(centres - high, 0.0) + np.maximum(low - centres, 0.0)
    inside = beyond == 0.0
    rounding = counts[inside].sum() * step * step / 12
    return float(rounding + (counts * beyond * beyond).sum())


_METHODS: Mapping[Method, Callable[[Histogram], tuple[float, float]]] = {
    "minmax": _minmax,
    "p99.999": _percentile(0.99999),
    "p99.99": _percentile(0.9999),
    "p99.9": _percentile(0.999),
    "mse": _least_error,
}
