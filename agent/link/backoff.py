"""How long to wait before the next try: exponential, bounded, full jitter. Pure.

Full jitter (a uniform draw from zero to the bound) is what spreads a fleet best after a broker's
restart: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

from dataclasses import dataclass

_MAX_DOUBLINGS = 30
"""Beyond it the bound was reached long ago; keeps the power of two small however long we try."""


@dataclass(frozen=True)
class Backoff:
    """The bound of the first wait, and of every wait, in seconds."""

    first_s: float = 1.0
    most_s: float = 60.0

    def bound(self, attempt: int) -> float:
        """The longest wait after `attempt` failures in a row (0: the first)."""
        doublings = min(max(attempt, 0), _MAX_DOUBLINGS)
        return min(self.most_s, self.first_s * float(2**doublings))

    def delay(self, attempt: int, chance: float) -> float:
        """The wait in seconds; `chance` is a uniform draw from [0, 1)."""
        return chance * self.bound(attempt)
