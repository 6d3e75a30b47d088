"""Which blobs to ask the hub for in one request, and when to give up. Pure; time is passed in.

A request asks for a few: what is here stays here when it is cut off, and the next one asks for the
outstanding ones. Requests that bring nothing are counted; a blob with wrong bytes is asked for once
more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.errors import Tampered, TransportFailed
from agent.link.rate import TokenBucket
from agent.ports import BlobRef
from contract.blob_request import MAX_DIGESTS

BATCH_BYTES = 4 << 20
"""Unpacked, of one request."""
MAX_VAIN = 4
"""Requests in a row that bring nothing."""
_FIRST_WAIT_S = 1.0


@dataclass
class HttpsPlan:
    """The progress of one fetch; owned by the worker that fetches."""

    outstanding: dict[str, BlobRef]
    rate: TokenBucket = field(default_factory=TokenBucket)
    vain: int = 0
    broken_once: set[str] = field(default_factory=set)
    _brought: int = 0
    _paid: dict[str, int] = field(default_factory=dict)
    """Of the present request, what was not answered yet."""

    @classmethod
    def of(cls, wanted: Iterable[BlobRef], rate: TokenBucket) -> HttpsPlan:
        """A plan for these blobs, each once, at no more than this rate."""
        return cls({ref.digest: ref for ref in wanted}, rate)

    def batch(self, now: float) -> list[BlobRef]:
        """What to ask for at this moment, paid for; empty while the rate allows none."""
        refs: list[BlobRef] = []
        size = 0
        for ref in self.outstanding.values():
            if len(refs) == MAX_DIGESTS or size >= BATCH_BYTES or not self.rate.may_spend(now):
                break
            self.rate.spend(ref.length)
            size += ref.length
            refs.append(ref)
        self._brought = 0
        self._paid = {ref.digest: ref.length for ref in refs}
        return refs

    def arrived(self, ref: BlobRef, received: int) -> None:
        """The blob is here, in so many bytes, and has its digest."""
        del self.outstanding[ref.digest]
        self.rate.give_back(self._paid.pop(ref.digest) - received)
        self._brought += 1

    def broken(self, ref: BlobRef, why: str) -> None:
        """It came with wrong bytes; `Tampered` the second time."""
        if ref.digest in self.broken_once:
            raise Tampered(f"blob {ref.digest[:16]}… came twice with wrong bytes: {why}")
        self.broken_once.add(ref.digest)
        del self._paid[ref.digest]
        self._brought += 1

    def absent(self, ref: BlobRef) -> None:
        """The hub does not give it: the others first."""
        self.rate.give_back(self._paid.pop(ref.digest))
        self.outstanding[ref.digest] = self.outstanding.pop(ref.digest)

    def ended(self, why: str) -> float:
        """A request is over; how long to wait, in seconds. `TransportFailed` after too many."""
        self.rate.give_back(sum(self._paid.values()))
        self._paid = {}
        if self._brought:
            self.vain = 0
            return 0.0
        self.vain += 1
        if self.vain >= MAX_VAIN:
            raise TransportFailed(why)
        return _FIRST_WAIT_S * 2.0 ** (self.vain - 1)
