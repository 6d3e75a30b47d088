"""The leaves that the hub issued, as rows: remembers one, revokes a device's."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session

from fleet.issuing import Issued
from fleet.storage.schema import Certificate, Device


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
