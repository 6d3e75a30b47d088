"""Certificate revocation lists (RFC 5280) as bytes: made, and read back. Pure.

A list speaks for one intermediate; one file may hold several. A broker refuses every certificate of
an intermediate whose list is missing or over, so an expired one locks devices out, and the hub too.
It lies beside the broker that reads it, so a long life costs no security: whoever could keep an old
list there could take it away as well.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from fleet.issuing import BACKDATE_MS, Signer

CRL_DAYS = 90
_END = b"-----END X509 CRL-----\n"


@dataclass(frozen=True)
class RevocationList:
    """What a list says."""

    issuer: str
    """The key identifier of the intermediate that it speaks for, hex."""
    made_ms: int
    ends_ms: int
    serials: frozenset[str]
    """Lower-case hex, as the hub's database has them."""


def crl_pem(signer: Signer, revoked: Collection[tuple[str, int]], now_ms: int) -> bytes:
    """A list of (serial, revoked at), signed by the intermediate that issued those leaves."""
    start = _when(now_ms - BACKDATE_MS)
    public = signer.key.public_key()
    assert isinstance(public, EllipticCurvePublicKey)  # noqa: S101 - narrows the type
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(start)
        .next_update(start + timedelta(days=CRL_DAYS))
        .add_extension(x509.CRLNumber(now_ms), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    for serial, at_ms in sorted(revoked):
        entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
        builder = builder.add_revoked_certificate(entry.revocation_date(_when(at_ms)).build())
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read_crl(data: bytes) -> RevocationList:
    """The first of a file; raises `ValueError` for anything else than a list with an end."""
    found = x509.load_pem_x509_crl(data)
    if found.next_update_utc is None:
        raise ValueError("the list does not say when it ends")
    number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    by = found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    return RevocationList(
        issuer=(by.key_identifier or b"").hex(),
        made_ms=number,
        ends_ms=round(found.next_update_utc.timestamp() * 1000),
        serials=frozenset(f"{entry.serial_number:x}" for entry in found),
    )


def read_lists(data: bytes) -> dict[str, RevocationList]:
    """Every list of a file, by issuer; raises `ValueError` when one of them cannot be read."""
    parts = data.split(_END)
    if len(parts) < 2 or parts.pop().strip():
        raise ValueError("no whole list")
    found = [read_crl(part + _END) for part in parts]
    return {each.issuer: each for each in found}


def issuer_of(signer: Signer) -> str:
    """How its list names it."""
    key = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return key.value.digest.hex()


def _when(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, timezone.utc)
