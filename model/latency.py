"""Latencies as counts over fixed bins, so that windows and devices add exactly. Pure.

The bins are part of the wire (`contract.messages.InferenceWindow.latency_counts`): 64, each a
quarter wider than the one before, from 0.05 ms to 51 s; the last takes whatever is slower.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from model.errors import MalformedCounts

BOUNDS_MS: tuple[float, ...] = tuple(round(0.05 * 1.25**i, 9) for i in range(63))
"""Upper bounds, inclusive, in ms; bin i holds (BOUNDS_MS[i-1], BOUNDS_MS[i]]."""
BINS = len(BOUNDS_MS) + 1


class LatencyCounts:
    """Counts that grow. Not locked: its owner calls it from one thread, or under its own lock."""

    def __init__(self, counts: Sequence[int] = ()) -> None:
        """Start from `counts` (none: from zero); raises `MalformedCounts`."""
        self._counts = _checked(counts)

    def add(self, ms: float) -> None:
        """Count one latency. NaN counts as the slowest."""
        self._counts[bisect_left(BOUNDS_MS, ms) if ms == ms else BINS - 1] += 1

    def counts(self) -> list[int]:
        """A copy of the counts, `BINS` long."""
        return list(self._counts)

    def quantile(self, q: float) -> float:
        """See `quantile`."""
        return quantile(self._counts, q)

    def merge(self, counts: Sequence[int]) -> None:
        """Add the counts of another window or device; raises `MalformedCounts`."""
        self._counts = merged(self._counts, counts)


def quantile(counts: Sequence[int], q: float) -> float:
    """The latency in ms below which a share `q` (0..1) lies; 0.0 without any counts.

    Interpolated within the bin, so off by at most a quarter. Raises `MalformedCounts`.
    """
    checked = _checked(counts)
    total = sum(checked)
    if not total:
        return 0.0
    rank, seen = q * total, 0
    for index, count in enumerate(checked):
        if count and seen + count >= rank:
            return _within(index, (rank - seen) / count)
        seen += count
    return _within(BINS - 1, 1.0)


def merged(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """The sum of two counts, either of which may be empty; raises `MalformedCounts`."""
    return [a + b for a, b in zip(_checked(first), _checked(second), strict=True)]


def difference(later: Sequence[int], earlier: Sequence[int]) -> list[int]:
    """What was counted between two cumulative counts; raises `MalformedCounts` when one fell."""
    found = [a - b for a, b in zip(_checked(later), _checked(earlier), strict=True)]
    if min(found) < 0:
        raise MalformedCounts("latency counts fell: the two are not of the same life")
    return found


def _within(index: int, share: float) -> float:
    low = BOUNDS_MS[index - 1] if index else 0.0
    high = BOUNDS_MS[index] if index < len(BOUNDS_MS) else low
    return low + (high - low) * min(max(share, 0.0), 1.0)


def _checked(counts: Sequence[int]) -> list[int]:
    if len(counts) not in (0, BINS):
        raise MalformedCounts(f"{len(counts)} latency counts; must be {BINS}")
    return list(counts) if counts else [0] * BINS
