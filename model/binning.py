"""Bins that are equiprobable on a reference: where their edges lie, and what falls into them. Pure.

Edges lie midway between values that the reference held, never on one, so that the last bit of a
sum (another CPU, another batch size) moves nothing from one bin to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from model.errors import MalformedProfile
from model.features import Floats
from model.tensors import Array

FEATURE_BINS = 16
CONFIDENCE_BINS = 17
_MARGIN = 1e-6
"""The range is widened by this share of itself, for the same reason."""


class Binning(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of the reference. `edges` are the inner ones; a value on an edge goes right."""

    edges: list[float]
    low: float
    high: float
    bins: list[int]
    """The reference's own counts."""
    n: int
    missing: int = 0
    longest_run: int = 0


def equiprobable_edges(values: Floats, bins: int) -> list[float]:
    """The `bins` - 1 inner edges that part finite `values` as evenly as ties allow.

    Values that repeat stay together, so edges may coincide and bins be empty.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < 2:
        return [_above(float(distinct[0]) if len(distinct) else 0.0)] * (bins - 1)
    places = distinct[:-1] + np.diff(distinct) / 2
    below = np.cumsum(counts)[:-1]
    wanted = np.arange(1, bins) * (len(values) / bins)
    return [float(places[i]) for i in _nearest(below, wanted)]


def reference_binning(
    values: Floats, edges: Sequence[float], span: tuple[float, float] | None = None
) -> Binning:
    """Count a reference column (NaN: missing) over `edges`; `span` overrides its own range."""
    finite = values[np.isfinite(values)]
    low, high = span or _span(finite)
    slots = np.searchsorted(np.asarray(edges), finite, side="right")
    return Binning(
        edges=list(edges),
        low=low,
        high=high,
        bins=np.bincount(slots, minlength=len(edges) + 1).tolist(),
        n=len(finite),
        missing=len(values) - len(finite),
        longest_run=longest_run(values),
    )


def check_binning(binning: Binning, bins: int, what: str) -> None:
    """Raises `MalformedProfile` that names `what` unless the binning can be counted against."""
    numbers = [*binning.edges, binning.low, binning.high]
    if len(binning.edges) != bins - 1 or len(binning.bins) != bins:
        raise MalformedProfile(f"profile: {what} does not have {bins} bins")
    if not np.isfinite(numbers).all() or binning.low > binning.high:
        raise MalformedProfile(f"profile: {what} has an edge or a range that is not finite")
    if sorted(binning.edges) != binning.edges:
        raise MalformedProfile(f"profile: the edges of {what} do not ascend")
    if min(binning.bins) < 0 or sum(binning.bins) != binning.n or binning.n > 1 << 53:
        raise MalformedProfile(f"profile: the counts of {what} do not add up to its n")


def longest_run(values: Floats) -> int:
    """The most equal values in a row; a missing one is equal to nothing."""
    if not len(values):
        return 0
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    return int(np.diff(np.r_[starts, len(values)]).max())


def _span(finite: Floats) -> tuple[float, float]:
    if not len(finite):
        return 0.0, 0.0
    low, high = float(finite.min()), float(finite.max())
    margin = _MARGIN * max(high - low, abs(low), abs(high), _MARGIN)
    return low - margin, high + margin


def _above(value: float) -> float:
    return value + _MARGIN * max(abs(value), _MARGIN)


def _nearest(ascending: Array, wanted: Array) -> list[int]:
    right = np.searchsorted(ascending, wanted).clip(1, max(len(ascending) - 1, 1))
    right = np.minimum(right, len(ascending) - 1)
    left = np.maximum(right - 1, 0)
    closer = np.abs(ascending[left] - wanted) <= np.abs(ascending[right] - wanted)
    return [int(i) for i in np.where(closer, left, right)]
