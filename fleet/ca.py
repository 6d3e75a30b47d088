"""The hub's certificate authority: a root, an intermediate that signs, and the hub's own leaves.

ECDSA P-256 throughout (devices sign with the same keys: contract.envelope). The root's key is
needed again only to renew the intermediate and may be taken off the machine. Decides nothing about
who may have a certificate: that is fleet.enrolment.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.errors import HubUnreadable
from fleet.files import write_whole

DAY_MS = 86_400_000
ROOT_DAYS = 7_300
INTERMEDIATE_DAYS = 3_650
SERVER_DAYS = 397
DEVICE_DAYS = 90
BACKDATE_MS = 3_600_000
"""Devices' clocks are a little off; a certificate is good from an hour ago."""
BRIEF_DAYS = (BACKDATE_MS + 300_000) / DAY_MS
"""Five minutes from now."""
HUB_USER = "hub"


@dataclass(frozen=True)
class Issued:
    """A leaf and what the hub remembers of it."""

    chain_pem: str
    """Leaf first, then the intermediate."""
    serial: str
    fingerprint: str
    public_key_pem: str
    not_before_ms: int
    not_after_ms: int


@dataclass(frozen=True)
class Signer:
    """A certificate that signs others, with its key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey


class Authority:
    """The CA in one directory (`ca/`): names of files, and what is issued from it."""

    def __init__(self, directory: Path) -> None:
        """Reads nothing yet; files are read when they are needed."""
        self.directory = directory
        self.root_file = directory / "root.crt"
        self.trusted_file = directory / "trusted.crt"
        """Root and intermediate, for checking clients that send their leaf alone."""

    def create(self, name: str, hosts: Sequence[str], now_ms: int) -> None:
        """Make the root, the intermediate and the hub's own leaves in the empty directory."""
        root_key, signer_key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
        root_name = _name(f"{name} root")
        root = _ca_certificate(root_name, root_key.public_key(), None, root_key, ROOT_DAYS, now_ms)
        signer = _ca_certificate(
            _name(f"{name} intermediate"),
            signer_key.public_key(),
            root,
            root_key,
            INTERMEDIATE_DAYS,
            now_ms,
        )
        self._write("root.key", key_pem(root_key))
        self._write("root.crt", _pem(root))
        self._write("intermediate.key", key_pem(signer_key))
        self._write("intermediate.crt", _pem(signer))
        self._write("trusted.crt", _pem(root) + _pem(signer))
        self.issue_own(hosts, now_ms)

    def issue_own(self, hosts: Sequence[str], now_ms: int) -> None:
        """New certificates, with new keys, for the API, the broker and the hub's broker client."""
        for file in ("api", "broker"):
            self._issue_own(file, hosts[0], hosts, now_ms)
        self._issue_own("hub", HUB_USER, (), now_ms)

    def own_due(self, now_ms: int) -> bool:
        """Whether the hub's own certificates have lived two thirds of their time."""
        certificate = _load_certificate(self.directory / "broker.crt")
        remaining = certificate.not_valid_after_utc.timestamp() * 1000 - now_ms
        return remaining < SERVER_DAYS * DAY_MS / 3

    def issue_device(self, device: str, key: EllipticCurvePublicKey, now_ms: int) -> Issued:
        """A client certificate whose subject is the device's name, whatever the CSR said."""
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._issue(_name(device), key, usage, (), DEVICE_DAYS, now_ms)

    def issue_brief(self, name: str, key: EllipticCurvePublicKey, now_ms: int) -> Issued:
        """A client certificate in any name, for the hub's own use in the next minutes."""
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._issue(_name(name), key, usage, (), BRIEF_DAYS, now_ms)

    def root_pem(self) -> str:
        """What a device or an operator trusts."""
        return self.root_file.read_text()

    def pair(self, name: str) -> tuple[Path, Path]:
        """Certificate chain and key file of `api`, `broker` or `hub`."""
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"

    def _issue_own(self, file: str, name: str, hosts: Sequence[str], now_ms: int) -> None:
        key = generate_private_key(SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        # A common name holds 64 characters; servers are known by their alternative names alone.
        issued = self._issue(_name(name[:64]), key.public_key(), usage, hosts, SERVER_DAYS, now_ms)
        self._write(f"{file}.key", key_pem(key))
        self._write(f"{file}.crt", issued.chain_pem.encode())

    def _issue(
        self,
        subject: x509.Name,
        key: EllipticCurvePublicKey,
        usage: x509.ObjectIdentifier,
        hosts: Sequence[str],
        days: float,
        now_ms: int,
    ) -> Issued:
        signer = self.signer()
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
            chain_pem=(_pem(leaf) + _pem(signer.certificate)).decode(),
            serial=f"{leaf.serial_number:x}",
            fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
            public_key_pem=public_key_pem(key),
            not_before_ms=_ms(leaf.not_valid_before_utc),
            not_after_ms=_ms(leaf.not_valid_after_utc),
        )

    def signer(self) -> Signer:
        """The intermediate; raises `HubUnreadable`."""
        path = self.directory / "intermediate.key"
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise HubUnreadable(f"{path}: {error}") from error
        if not isinstance(key, EllipticCurvePrivateKey):
            raise HubUnreadable(f"{path} is not an ECDSA key")
        return Signer(_load_certificate(self.directory / "intermediate.crt"), key)

    def _write(self, name: str, data: bytes) -> None:
        write_whole(self.directory / name, data)


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


def _ca_certificate(
    subject: x509.Name,
    key: EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    issuer_key: EllipticCurvePrivateKey,
    days: int,
    now_ms: int,
) -> x509.Certificate:
    # A path length of 1 at the root and 0 below: the intermediate signs leaves and nothing else.
    path_length = 1 if issuer is None else 0
    return (
        _builder(subject, key, issuer, days, now_ms)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(issuer_key, hashes.SHA256())
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


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise HubUnreadable(f"{path}: {error}") from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: EllipticCurvePrivateKey) -> bytes:
    """PKCS 8, unencrypted: the hub has to start without anyone at a keyboard."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)
