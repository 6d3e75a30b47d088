"""What time it is, as far as signed metadata can prove it. Pure.

A clock may be wrong in both directions; one that runs behind would keep expired metadata alive. So
the time is never taken to be earlier than the latest that was proven: the floor.
"""

from __future__ import annotations

from collections.abc import Iterable

TUF_RESOLUTION_MS = 1_000
"""TUF's expiries are whole seconds, and metadata that expires now counts as expired."""


def trusted_now(clock_ms: int, floor_ms: int) -> int:
    """The device's time, but never before what was proven."""
    return max(clock_ms, floor_ms)


def next_floor(floor_ms: int, build_ms: int, issued_at_ms: int, expiries_ms: Iterable[int]) -> int:
    """The floor after a good refresh: it rises to the time of issue, and never falls.

    Kept before the earliest expiry of what was just found to be good, so that a hub whose clock
    once ran ahead cannot push a device to where everything offline keys signed has expired.
    """
    latest = min(expiries_ms) - TUF_RESOLUTION_MS
    return max(floor_ms, min(max(build_ms, issued_at_ms), latest))
