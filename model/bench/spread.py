"""How measured latencies spread: pure statistics. Knows nothing of clocks or models."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies in milliseconds: percentiles, the mean, and both ends."""

    runs: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    low_ms: float
    high_ms: float


def spread_of(latencies_ms: Sequence[float]) -> Spread:
    """The spread of at least one latency; a percentile lies between the two nearest values.

    Raises `ValueError` for no latencies, or one that is negative or not finite.
    """
    values = np.asarray(latencies_ms, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all() or values.min() < 0:
        raise ValueError("latencies must be finite, not negative, and at least one")
    p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99)))
    return Spread(
        runs=int(values.size),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        mean_ms=float(values.mean()),
        low_ms=float(values.min()),
        high_ms=float(values.max()),
    )
