"""The device's key and certificate: made, asked for, and checked before anything is kept. Pure.

ECDSA on P-256 (FIPS 186-5), X.509 (RFC 5280). A certificate is taken only when it is for our own
key, in our name, and every link up to a CA that this device trusts is signed and allowed to sign.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_MAX_CHAIN = 4
_DAMAGED = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class CertificateRefused(Exception):
    """What the hub sent is not a certificate for this device's key by this CA."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS 8, unencrypted: the device has to start without anyone at a keyboard."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def request_pem(key: ec.EllipticCurvePrivateKey, device: str) -> str:
    """A CSR with the device's name as its only subject."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def is_request_of(csr_pem: str, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether the CSR asks for a certificate for this key."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        return _spki(csr.public_key()) == _spki(key.public_key())
    except _DAMAGED:
        return False


def check_chain(
    certificate_pem: str, ca_pem: str, key: ec.EllipticCurvePrivateKey, device: str, now_ms: int
) -> None:
    """Raises `CertificateRefused` that says which check failed."""
    with _damage_is_named("the certificate"):
        _check_chain(certificate_pem, ca_pem, key, device, now_ms)


def _check_chain(
    certificate_pem: str, ca_pem: str, key: ec.EllipticCurvePrivateKey, device: str, now_ms: int
) -> None:
    chain = _parse(certificate_pem, "the certificate")
    roots = _parse(ca_pem, "the CA")
    leaf = chain[0]
    if _spki(leaf.public_key()) != _spki(key.public_key()):
        raise CertificateRefused("the certificate is for another key than this device's")
    names = [str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device]:
        raise CertificateRefused(f"the certificate is for {names}, not for {device}")
    for position, certificate in enumerate(chain):
        _check_dates(certificate, now_ms)
        if any(_signed_by(certificate, root) for root in roots):
            return
        if position + 1 == len(chain) or not _signed_by(certificate, chain[position + 1]):
            break
    raise CertificateRefused("the certificate does not lead to a CA that this device trusts")


def check_ca(ca_pem: str) -> None:
    """Raises `CertificateRefused` for what holds no certificates."""
    _parse(ca_pem, "ca_pem")


def lifetime(certificate_pem: str) -> tuple[int, int]:
    """Beginning and end of a chain's leaf, in UTC milliseconds; raises `CertificateRefused`."""
    with _damage_is_named("the certificate"):
        leaf = _parse(certificate_pem, "the certificate")[0]
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return round(begin.timestamp() * 1000), round(end.timestamp() * 1000)


def _parse(pem: str, what: str) -> list[x509.Certificate]:
    with _damage_is_named(what):
        found = x509.load_pem_x509_certificates(pem.encode())
    if not 1 <= len(found) <= _MAX_CHAIN:
        raise CertificateRefused(f"{what} has {len(found)} links; at most {_MAX_CHAIN}")
    return found


@contextmanager
def _damage_is_named(what: str) -> Iterator[None]:
    """Half of a certificate is parsed only when it is asked for, so damage shows late."""
    try:
        yield
    except _DAMAGED as error:
        raise CertificateRefused(f"{what} is not a PEM certificate: {str(error)[:120]}") from error


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, TypeError, *_DAMAGED):
        return False
    return constraints.ca


def _check_dates(certificate: x509.Certificate, now_ms: int) -> None:
    now = datetime.datetime.fromtimestamp(now_ms / 1000, datetime.timezone.utc)
    if now >= certificate.not_valid_after_utc:
        ended = certificate.not_valid_after_utc.isoformat()
        raise CertificateRefused(f"a certificate of the chain expired at {ended}")


def _spki(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey) or hasattr(key, "public_bytes")  # noqa: S101 - every public key has it
    return bytes(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
