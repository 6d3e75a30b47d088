"""Makes X.509 certificates (RFC 5280): keys, names and extensions as this fleet has them. Pure.

ECDSA P-256 throughout (devices sign with the same keys: contract.envelope). Knows no files, and not
which authority there is: that is fleet.ca.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.x509.oid import NameOID

BACKDATE_MS = 3_600_000
"""Devices' clocks are a little off; a certificate is good from an hour ago."""


@dataclass(frozen=True)
class Issued:
    """A leaf and what the hub remembers of it."""

    chain_pem: str
    """Leaf first, then the certificate that signed it."""
    serial: str
    fingerprint: str
    issuer: str
    """SHA-256 of the certificate that signed it."""
    public_key_pem: str
    not_before_ms: int
    not_after_ms: int


@dataclass(frozen=True)
class Signer:
    """A certificate that signs others, with its key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, hex."""
        return fingerprint(self.certificate)


def issue_leaf(
    signer: Signer,
    subject: x509.Name,
    key: EllipticCurvePublicKey,
    usage: x509.ObjectIdentifier,
    hosts: Sequence[str],
    days: float,
    now_ms: int,
) -> Issued:
    """A certificate that signs no others; `hosts` are its alternative names."""
    builder = (
        _builder(subject, key, signer.certificate, days, now_ms)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if hosts:
        names = x509.SubjectAlternativeName([alternative_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    leaf = builder.sign(signer.key, hashes.SHA256())
    return Issued(
        chain_pem=(pem(leaf) + pem(signer.certificate)).decode(),
        serial=f"{leaf.serial_number:x}",
        fingerprint=fingerprint(leaf),
        issuer=signer.fingerprint,
        public_key_pem=public_key_pem(key),
        not_before_ms=_ms(leaf.not_valid_before_utc),
        not_after_ms=_ms(leaf.not_valid_after_utc),
    )


def ca_certificate(
    subject: x509.Name,
    key: EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    issuer_key: EllipticCurvePrivateKey,
    days: int,
    now_ms: int,
) -> x509.Certificate:
    """A root where there is no issuer, else a certificate that signs leaves and nothing else."""
    # A path length of 1 at the root and 0 below.
    path_length = 1 if issuer is None else 0
    return (
        _builder(subject, key, issuer, days, now_ms)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256, hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def common_name(text: str) -> x509.Name:
    """A name of that one part."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def alternative_name(host: str) -> x509.GeneralName:
    """A host name or an address, as it stands in a certificate."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def public_key_pem(key: EllipticCurvePublicKey) -> str:
    """SubjectPublicKeyInfo, PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def pem(certificate: x509.Certificate) -> bytes:
    """As every reader here has it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: EllipticCurvePrivateKey) -> bytes:
    """PKCS 8, unencrypted: the hub has to start without anyone at a keyboard."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _builder(
    subject: x509.Name,
    key: EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    days: float,
    now_ms: int,
) -> x509.CertificateBuilder:
    """What every certificate has; the key identifiers are what strict verifiers insist on."""
    start = datetime.fromtimestamp((now_ms - BACKDATE_MS) // 1000, timezone.utc)
    signer_key = key if issuer is None else issuer.public_key()
    assert isinstance(signer_key, EllipticCurvePublicKey)  # noqa: S101 - all keys here are P-256
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key), critical=False
        )
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)
