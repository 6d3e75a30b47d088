"""How long to wait before the next try: exponential backoff with full jitter.

The shell's, since a machine without randomness cannot spread a fleet.
"""

from __future__ import annotations

import random

FIRST_MS = 2_000
LONGEST_MS = 10 * 60 * 1000
LEAST_MS = 500


def backoff_ms(tries: int, share: float | None = None) -> int:
    """A wait before try `tries` + 1; `share` (0..1) replaces the dice in tests."""
    longest = min(LONGEST_MS, FIRST_MS * 2 ** min(tries - 1, 20))
    drawn = random.random() if share is None else share  # noqa: S311 - spreads load, hides nothing
    return max(LEAST_MS, int(longest * drawn))


def is_due(retry_at_ms: int | None, now_ms: int) -> bool:
    """Whether a try that was put off is to be made now; None: there is none."""
    return retry_at_ms is not None and retry_at_ms <= now_ms
