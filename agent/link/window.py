"""How many blobs to have asked for at once, found from how fast they come. Pure; time is passed in.

What is asked for waits at the broker, in its memory, until the link has carried it. So a window is
no longer than keeps the link busy: on average a blob may take half as long again as the quickest
one took, from the question to its arrival, or a quarter of a second. On a slow link that is two
blobs, on a fast one as many as the device has memory for. A round is a window's worth of arrivals;
each may double the window or halve it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from contract.manifest import MAX_CHUNK_BYTES

FIRST_BLOBS, LEAST_BLOBS, MOST_BLOBS = 8, 2, 32
FIRST_BYTES = 128 * 1024
MOST_BYTES = 8 * MAX_CHUNK_BYTES
"""What the worker has not taken yet waits in memory: at most so much, or 32 times 120 KiB when the
broker sends longer blobs than it was asked for."""
_PATIENCE = 1.5
"""How many times as long as the quickest blob a blob may take on average."""
_SHORT_S = 0.25
"""Nobody minds a wait of so long: without it, what a busy machine adds would close the window."""


@dataclass
class Window:
    """Owned by the worker that fetches; a new connection gets a new one."""

    blobs: int = FIRST_BLOBS
    room: int = FIRST_BYTES
    """Bytes, unpacked; two blobs may be asked for whatever they come to."""
    _quickest: float = math.inf
    _waited: float = 0.0
    _arrived: int = 0

    def opens(self, blobs: int, size: int) -> bool:
        """Whether half of it is free again, with so many blobs under way: one SUBSCRIBE asks for
        several."""
        return blobs < LEAST_BLOBS or (2 * blobs <= self.blobs and 2 * size <= self.room)

    def admits(self, blobs: int, size: int) -> bool:
        """Whether there may be so many blobs, of so many bytes in all, under way."""
        return blobs <= LEAST_BLOBS or (blobs <= self.blobs and size <= self.room)

    def arrived(self, waited: float) -> None:
        """One came, so many seconds after it was asked for."""
        self._quickest = min(self._quickest, waited)
        self._waited += waited
        self._arrived += 1
        if self._arrived >= self.blobs:
            self._resize()

    def _resize(self) -> None:
        mean = self._waited / self._arrived
        allowed = max(_PATIENCE * self._quickest, _SHORT_S)
        factor = min(2.0, max(0.5, allowed / mean)) if mean > 0 else 2.0
        self.blobs = min(MOST_BLOBS, max(LEAST_BLOBS, round(self.blobs * factor)))
        self.room = min(MOST_BYTES, max(MAX_CHUNK_BYTES, int(self.room * factor)))
        self._waited, self._arrived = 0.0, 0
