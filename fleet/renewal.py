"""Gives an enrolled device its next certificate, for the same key, against a signature by that key.

An expired leaf is no hindrance for a year, a revoked one is for ever. While the newest certificate
has more than a third of its life left, and is of the CA that issues now, that very one is given
again: so a repeated or replayed request yields nothing new, and a lost reply costs nothing. Who
holds the key decides, not the clock of the device: a request of another time is answered with the
hub's.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.errors import BadSignature
from contract.renewal import RenewalReply, RenewalRequest, SignedRenewal
from fleet.ca import DAY_MS, Authority
from fleet.certificates import is_signed_by, remember_certificate
from fleet.csr import csr_key
from fleet.errors import ClockDiffers, RenewalRefused
from fleet.issuing import public_key_pem
from fleet.storage.database import Storage
from fleet.storage.schema import Certificate, Device

WINDOW_MS = 600_000
"""How far the time of a request may be from the hub's."""
GRACE_MS = 365 * DAY_MS
"""How long after its end a certificate may still be renewed."""

_REFUSED = "enrol it again (`outrider device add NAME --replace`)"


def prove(storage: Storage, signed: SignedRenewal) -> None:
    """Raises `RenewalRefused` unless a key signed that has, or had, a certificate of this device.

    Changes nothing, and reads no CSR: what a stranger sends is a signature to check, and no more.
    """
    device = signed.request.device
    with storage.reading() as session:
        if not is_signed_by(session, signed, device, ended_after_ms=0):
            raise RenewalRefused(f"{device} has no certificate for this key here: {_REFUSED}")


def renew(
    storage: Storage, authority: Authority, signed: SignedRenewal, now_ms: int
) -> RenewalReply:
    """Answer one request; raises `RenewalRefused`, `ClockDiffers` or `CsrRefused`."""
    request = signed.request
    key = csr_key(request.csr_pem)
    try:
        signed.check(key)
    except BadSignature as error:
        raise RenewalRefused(str(error)) from error
    with storage.session() as session:
        issuer = authority.signer().fingerprint
        newest = _newest(session, request.device, public_key_pem(key), issuer, now_ms)
        _check_time(session.get_one(Device, request.device), request, now_ms)
        chain = newest.chain_pem
        # One that names none is of the CA that there was first.
        by = newest.issuer or authority.signers()[0].fingerprint
        if chain is None or _is_due(newest, now_ms) or by != issuer:
            issued = authority.issue_device(request.device, key, now_ms)
            chain = issued.chain_pem
            remember_certificate(session, request.device, issued)
    return RenewalReply(device=request.device, nonce=request.nonce, certificate_pem=chain)


def _newest(session: Session, device: str, key_pem: str, issuer: str, now_ms: int) -> Certificate:
    """The device's newest certificate for this key; raises `RenewalRefused` where there is none."""
    found = session.scalars(
        select(Certificate)
        .join(Device, Device.name == Certificate.device)
        .where(Device.name == device, Device.status == "enrolled")
        .where(Certificate.public_key_pem == key_pem, Certificate.revoked_at_ms.is_(None))
        # Two of one second, when the CA changed just then.
        .order_by(Certificate.not_after_ms.desc(), (Certificate.issuer == issuer).desc())
        .limit(1)
    ).one_or_none()
    if found is None:
        raise RenewalRefused(f"{device} has no certificate for this key here: {_REFUSED}")
    if now_ms >= found.not_after_ms + GRACE_MS:
        raise RenewalRefused(f"the certificate of {device} ended more than a year ago: {_REFUSED}")
    return found


def _check_time(device: Device, request: RenewalRequest, now_ms: int) -> None:
    if abs(request.at_ms - now_ms) > WINDOW_MS:
        raise ClockDiffers("the request is of another time", now_ms)
    last = device.renewal_at_ms
    # A last request from the future is of a clock that was put right since.
    if last is not None and request.at_ms <= last <= now_ms + WINDOW_MS:
        raise ClockDiffers("a request as new as this one has come already", max(now_ms, last + 1))
    device.renewal_at_ms = request.at_ms


def _is_due(newest: Certificate, now_ms: int) -> bool:
    lifetime = newest.not_after_ms - newest.not_before_ms
    return newest.not_after_ms - now_ms < lifetime / 3
