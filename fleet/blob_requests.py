"""Which of the blobs that a device asks for over HTTPS it may have: proven by its key, and owed it.

A request is good for a few minutes only. Within them a copy yields the same blobs once more, which
nobody can read who did not see the request inside TLS. Serves no bytes itself: it says which, or
where they stand in the bucket.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.blob_places import BlobPlaces
from contract.blob_request import SignedBlobRequest
from contract.errors import BadSignature
from fleet.errors import BlobsRefused, ClockDiffers
from fleet.owed import allowed_blobs
from fleet.packs import Shelf
from fleet.storage.database import Storage
from fleet.storage.schema import Certificate, Device

WINDOW_MS = 600_000
"""How far the time of a request may be from the hub's."""


def granted(storage: Storage, signed: SignedBlobRequest, now_ms: int) -> set[str]:
    """The digests to serve; raises `BlobsRefused` or `ClockDiffers`."""
    request = signed.request
    with storage.reading() as session:
        if not any(_signed_by(signed, key) for key in _keys(session, request.device, now_ms)):
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


def _keys(session: Session, device: str, now_ms: int) -> Iterator[EllipticCurvePublicKey]:
    """Of the certificates with which the broker would let the device in, each once."""
    pems = session.scalars(
        select(Certificate.public_key_pem)
        .join(Device, Device.name == Certificate.device)
        .where(Device.name == device, Device.status == "enrolled")
        .where(Certificate.revoked_at_ms.is_(None), Certificate.not_after_ms > now_ms)
        .distinct()
    )
    for pem in pems:
        key = load_pem_public_key(pem.encode())
        assert isinstance(key, EllipticCurvePublicKey)  # noqa: S101 - fleet.ca issues no other
        yield key


def _signed_by(signed: SignedBlobRequest, key: EllipticCurvePublicKey) -> bool:
    try:
        signed.check(key)
    except BadSignature:
        return False
    return True
