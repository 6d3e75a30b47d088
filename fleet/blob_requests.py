"""Which of the blobs that a device asks for over HTTPS it may have: proven by its key, and owed it.

A request is good for a few minutes only. Within them a copy yields the same blobs once more, which
nobody can read who did not see the request inside TLS. Serves no bytes itself: it says which, or
where they stand in the bucket.
"""

from __future__ import annotations

from contract.blob_places import BlobPlaces
from contract.blob_request import SignedBlobRequest
from fleet.certificates import is_signed_by
from fleet.errors import BlobsRefused, ClockDiffers
from fleet.owed import allowed_blobs
from fleet.packs import Shelf
from fleet.storage.database import Storage

WINDOW_MS = 600_000
"""How far the time of a request may be from the hub's."""


def granted(storage: Storage, signed: SignedBlobRequest, now_ms: int) -> set[str]:
    """The digests to serve; raises `BlobsRefused` or `ClockDiffers`."""
    request = signed.request
    with storage.reading() as session:
        # The certificates with which the broker would let it in.
        if not is_signed_by(session, signed, request.device, now_ms):
            raise BlobsRefused(f"{request.device} has no certificate here for the key that signed")
        if abs(request.at_ms - now_ms) > WINDOW_MS:
            raise ClockDiffers("the request is of another time", now_ms)
        allowed = allowed_blobs(session, request.device, request.target, request.digests)
    if not allowed:
        raise BlobsRefused(f"{request.device} is not to have these blobs of {request.target}")
    return set(allowed)


def placed(shelf: Shelf | None, signed: SignedBlobRequest, allowed: set[str]) -> BlobPlaces | None:
    """Where the bucket holds what was granted; None when it does not, or there is none."""
    request = signed.request
    found = shelf.places(request.target, request.digests, allowed) if shelf else None
    return BlobPlaces(address=found[0], places=found[1]) if found else None
