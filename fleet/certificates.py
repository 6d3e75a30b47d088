"""The leaves that the hub issued, as rows: remembers one, revokes a device's, says who signed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from contract.errors import BadSignature
from fleet.issuing import Issued
from fleet.storage.schema import Certificate, Device


class Signed(Protocol):
    """A `contract.signed_request.SignedRequest`, whatever it asks for."""

    def check(self, key: EllipticCurvePublicKey) -> None:
        """Raises `BadSignature`."""


def is_signed_by(session: Session, signed: Signed, device: str, ended_after_ms: int) -> bool:
    """Whether by a key of this enrolled device, with a leaf that is unrevoked and ended no sooner.

    A device has one key, or two while it is being replaced: a stranger costs a check or two.
    """
    return any(_checks(signed, key) for key in _keys(session, device, ended_after_ms))


def remember_certificate(session: Session, device: str, issued: Issued) -> None:
    """In the caller's transaction."""
    session.add(
        Certificate(
            device=device,
            fingerprint=issued.fingerprint,
            serial=issued.serial,
            issuer=issued.issuer,
            public_key_pem=issued.public_key_pem,
            not_before_ms=issued.not_before_ms,
            not_after_ms=issued.not_after_ms,
            chain_pem=issued.chain_pem,
        )
    )


def revoke_certificates(session: Session, device: Device, now_ms: int) -> None:
    """Every one of the device; whatever session it has at the broker is owed its end."""
    session.execute(
        update(Certificate)
        .where(Certificate.device == device.name, Certificate.revoked_at_ms.is_(None))
        .values(revoked_at_ms=now_ms)
    )
    if device.enrolled_at_ms is not None:
        device.takeover_since_ms = now_ms


def _keys(session: Session, device: str, ended_after_ms: int) -> Iterator[EllipticCurvePublicKey]:
    """Each once."""
    pems = session.scalars(
        select(Certificate.public_key_pem)
        .join(Device, Device.name == Certificate.device)
        .where(Device.name == device, Device.status == "enrolled")
        .where(Certificate.revoked_at_ms.is_(None), Certificate.not_after_ms > ended_after_ms)
        .distinct()
    )
    for pem in pems:
        key = load_pem_public_key(pem.encode())
        assert isinstance(key, EllipticCurvePublicKey)  # noqa: S101 - fleet.ca issues no other
        yield key


def _checks(signed: Signed, key: EllipticCurvePublicKey) -> bool:
    try:
        signed.check(key)
    except BadSignature:
        return False
    return True
