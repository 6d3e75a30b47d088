"""The distribution of one tensor's values, counted as they stream by, in memory of a fixed size.

Owns the bins: their width doubles whenever a value falls outside, so that nothing need be known
beforehand, no value is kept, and the order of the batches matters only within one bin. Minimum and
maximum are exact. Holds no opinion on which range is best; that is `thresholds`.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 2048
COUNTED = 1 << 16
"""Values of one batch that are binned, evenly spread; minimum and maximum regard all of them."""
_MIN_EXPONENT = -100
"""Narrower bins are of no use, and the reciprocal of their width must fit into a float32."""


class Histogram:
    """Counts over [first * width, (first + BINS) * width), a grid that has zero on a bin's edge.

    Unless `counted`, there are no counts, for who asks for minimum and maximum only.
    """

    def __init__(self, *, counted: bool = True) -> None:
        self._counted = counted
        self.low = math.inf
        self.high = -math.inf
        self.total = 0
        self._counts = np.zeros(BINS, dtype=np.int64)
        self._width = 0.0
        self._first = 0

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 [BINS]."""
        return self._counts

    @property
    def centres(self) -> NDArray[np.float64]:
        """float64 [BINS]: the middle of each bin."""
        return np.asarray((self._first + np.arange(BINS) + 0.5) * self._width, dtype=np.float64)

    def observe(self, values: NDArray[np.floating[Any]]) -> None:
        """Count `values`, of any shape. NaN or Inf is not counted but shows in `low` or `high`."""
        flat = values.reshape(-1)
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            self.low, self.high = low, high
            return
        if not self._counted:
            self.low, self.high = min(self.low, low), max(self.high, high)
            return
        self._widen(low, high)
        seen = flat[:: _step(flat.size)]
        self.total += seen.size
        if self._width == 0.0:
            return
        # In place and in float32, where every one of these integers is exact: three times as fast.
        place = seen * np.float32(1 / self._width)
        np.floor(place, out=place)
        place -= np.float32(self._first)
        # A value at the very edge may round into the next bin.
        np.clip(place, np.float32(0), np.float32(BINS - 1), out=place)
        self._counts += np.bincount(place.astype(np.intp), minlength=BINS)

    def merged(self, other: Histogram) -> Histogram:
        """Both distributions as one; neither is changed."""
        both = copy.deepcopy(self)
        both.low, both.high = min(both.low, other.low), max(both.high, other.high)
        if other.total == 0:
            return both
        both._widen(other.low, other.high)
        while both._width < other._width:
            both._double()
        both.total += other.total
        if both._width > 0.0:
            centres = other.centres if other._width > 0.0 else np.zeros(BINS)
            counts = other._counts if other._width > 0.0 else _all_in_first(other.total)
            places = np.floor(centres / both._width).astype(np.int64) - both._first
            np.add.at(both._counts, np.clip(places, 0, BINS - 1), counts)
        return both

    def _widen(self, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)
        low, high = min(low, 0.0), max(high, 0.0)
        if self._width == 0.0 and low < high:
            # A power of two, so that the bins of any two histograms lie on each other.
            exponent = math.ceil(math.log2((high - low) / (BINS - 2)))
            self._width = 2.0 ** max(exponent, _MIN_EXPONENT)
            self._first = math.floor(low / self._width)
            self._counts[-self._first] = self.total  # zeros, all of them
        while self._width > 0.0 and not self._holds(low, high):
            self._slide(low, high)

    def _holds(self, low: float, high: float) -> bool:
        return self._first * self._width <= low and high < (self._first + BINS) * self._width

    def _double(self) -> None:
        """Two bins become one; the grid keeps zero on an edge."""
        first = self._first // 2
        places = (self._first + np.arange(BINS)) // 2 - first
        self._counts = np.bincount(places, weights=self._counts, minlength=BINS).astype(np.int64)
        self._width, self._first = 2 * self._width, first

    def _slide(self, low: float, high: float) -> None:
        """Move the window over the grid; widen the bins when what is counted would fall out."""
        used = np.flatnonzero(self._counts)
        start = math.floor(low / self._width)
        end = math.floor(high / self._width)
        if used.size:
            start = min(start, self._first + int(used[0]))
            end = max(end, self._first + int(used[-1]))
        if end - start >= BINS:
            self._double()
            return
        places = np.arange(BINS) + self._first - start
        moved = np.zeros_like(self._counts)
        inside = (places >= 0) & (places < BINS)
        moved[places[inside]] = self._counts[inside]
        self._counts, self._first = moved, start


def _all_in_first(total: int) -> NDArray[np.int64]:
    counts = np.zeros(BINS, dtype=np.int64)
    counts[0] = total
    return counts


def _step(size: int) -> int:
    """An odd stride: channels often come in even numbers, and each should be seen."""
    step = -(-size // COUNTED)
    return step | 1 if step > 1 else 1
