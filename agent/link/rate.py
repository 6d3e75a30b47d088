"""How fast a device may fetch: a token bucket over bytes. Pure; time is passed in, in seconds.

A blob is paid for when it is asked for, by what it unpacks to; what it came to on the wire is known
later, and the rest is given back. A blob may be larger than the bucket, which then owes: so any
rate, however small, lets every blob pass in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

BURST_S = 1.0
"""What was not used is kept for so long."""


@dataclass
class TokenBucket:
    """Owned by the worker that fetches. `rate` is bytes a second; 0: no limit."""

    rate: float = 0.0
    tokens: float = 0.0
    filled_at: float | None = None

    def may_spend(self, now: float) -> bool:
        """Whether another blob may be asked for at this moment."""
        if not self.rate:
            return True
        if self.filled_at is None:
            self.tokens += self.rate * BURST_S
        else:
            self.tokens += self.rate * max(0.0, now - self.filled_at)
        self.tokens = min(self.tokens, self.rate * BURST_S)
        self.filled_at = now
        return self.tokens > 0

    def spend(self, size: int) -> None:
        """Pay for a blob; the bucket may owe afterwards."""
        if self.rate:
            self.tokens -= size

    def give_back(self, size: int) -> None:
        """A blob came to fewer bytes than were paid for (or, below zero, to more)."""
        if self.rate:
            self.tokens += size
