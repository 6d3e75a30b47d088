"""Which blobs to ask the hub for in one request, and when to give up. Pure; time is passed in.

A request asks for a few: what is here stays here when it is cut off, and the next one asks for the
outstanding ones. Requests that bring nothing are counted; a blob with wrong bytes is asked for once
more. From an object store whole stretches come at once, so a request there asks for more; a store
that fails is left alone for a while, and the hub asked for the blobs themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import itemgetter

from agent.errors import Tampered, TransportFailed
from agent.link.rate import TokenBucket
from agent.ports import BlobRef
from contract.blob_request import MAX_DIGESTS, MAX_STREAMED

BATCH_BYTES = 4 << 20
"""Unpacked, of one request."""
PLACED_BYTES = 32 << 20
"""The same, where the hub says where the blobs are."""
MAX_VAIN = 4
"""Requests in a row that bring nothing."""
_FIRST_WAIT_S = 1.0
MAX_STORE_FAILURES = 2
"""The first may be an address that has expired: the hub gives another."""
STORE_REST_S = 600.0


@dataclass
class StorePatience:
    """Whether the object store is asked at all. Outlives a fetch."""

    failures: int = 0
    """In a row."""
    _rests_until: float = 0.0

    def may_ask(self, now: float) -> bool:
        """Not after it failed again and again, until it has had time to come back."""
        return now >= self._rests_until

    def failed(self, now: float) -> None:
        """Nothing came, or not what was promised."""
        self.failures += 1
        if self.failures >= MAX_STORE_FAILURES:
            self.failures, self._rests_until = 0, now + STORE_REST_S

    def brought(self) -> None:
        """All came that it was asked for."""
        self.failures = 0


@dataclass
class Stretch:
    """Blobs that stand behind one another in the object."""

    start: int
    blobs: list[tuple[BlobRef, int]] = field(default_factory=list)
    """Each with the length of its payload."""

    @property
    def length(self) -> int:
        """Of all of them."""
        return sum(length for _, length in self.blobs)


def stretches(refs: Iterable[BlobRef], places: Iterable[tuple[int, int]]) -> list[Stretch]:
    """What to read, from front to back; no byte between two blobs is read. Length 0: not there."""
    placed = [(*place, ref) for ref, place in zip(refs, places, strict=True) if place[1]]
    found: list[Stretch] = []
    end = -1
    for start, length, ref in sorted(placed, key=itemgetter(0)):
        if start != end:
            found.append(Stretch(start))
        found[-1].blobs.append((ref, length))
        end = start + length
    return found


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

    def batch(self, now: float, placed: bool = False) -> list[BlobRef]:
        """What to ask for at this moment, paid for; empty while the rate allows none.

        `placed`: the hub has answered with places before.
        """
        count, most = (MAX_DIGESTS, PLACED_BYTES) if placed else (MAX_STREAMED, BATCH_BYTES)
        refs: list[BlobRef] = []
        size = 0
        for ref in self.outstanding.values():
            if len(refs) == count or size >= most or not self.rate.may_spend(now):
                break
            self.rate.spend(ref.length)
            size += ref.length
            refs.append(ref)
        self._brought = 0
        self._paid = {ref.digest: ref.length for ref in refs}
        return refs

    @property
    def has_brought(self) -> bool:
        """Whether the present request brought anything yet."""
        return self._brought > 0

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
