"""The root certificates that `policy/ca` names: what may stand there, and how two are compared.

A root is one self-signed X.509 CA certificate, PEM, exactly as its encoder writes it, so that equal
roots are equal texts. Whether it *should* be trusted is not known here: offline keys say that.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from contract.errors import MalformedTrust
from contract.targets import CA_TARGET, MAX_ROOTS, CaPolicy, custom_from_dict


def ca_policy(roots: Sequence[bytes]) -> CaPolicy:
    """The policy that names these PEM files; raises `MalformedTrust`."""
    if not 1 <= len(roots) <= MAX_ROOTS:
        raise MalformedTrust(f"{CA_TARGET}: {len(roots)} roots; it names 1 to {MAX_ROOTS}")
    policy = CaPolicy(roots=[_canonical(_root(data)) for data in roots])
    _require_distinct(policy.roots)
    return policy


def read_ca_policy(custom: object) -> CaPolicy:
    """Check a signed `policy/ca`; raises `MalformedManifest` or `MalformedTrust`."""
    policy = custom_from_dict(CaPolicy, custom, CA_TARGET)
    for pem in policy.roots:
        if _canonical(_root(_bytes(pem))) != pem:
            raise MalformedTrust(f"{CA_TARGET}: a root with something beside its certificate")
    _require_distinct(policy.roots)
    return policy


def root_names(policy: CaPolicy) -> dict[str, str]:
    """SHA-256 of each root -> its name and end, for people."""
    found = [_root(_bytes(pem)) for pem in policy.roots]
    return {
        root.fingerprint(hashes.SHA256()).hex(): (
            f"{root.subject.rfc4514_string()[:80]}, until {root.not_valid_after_utc:%Y-%m-%d}"
        )
        for root in found
    }


def names_root(policy: CaPolicy, root_pem: bytes) -> bool:
    """Whether the policy lets devices trust this root; raises `MalformedTrust`."""
    return _canonical(_root(root_pem)) in policy.roots


def _root(data: bytes) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificates(data)
    except (ValueError, x509.InvalidVersion) as error:
        raise MalformedTrust(f"{CA_TARGET}: not a PEM certificate: {str(error)[:100]}") from error
    if len(found) != 1:
        raise MalformedTrust(f"{CA_TARGET}: {len(found)} certificates where one root belongs")
    _require_root(found[0])
    return found[0]


def _require_root(certificate: x509.Certificate) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(certificate)
        # Both are parsed when they are asked for, and asked for again where people read them.
        _ = certificate.subject, certificate.not_valid_after_utc
    except (x509.ExtensionNotFound, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        raise MalformedTrust(f"{CA_TARGET}: a certificate that is no root") from error
    except (InvalidSignature, ValueError, TypeError) as error:
        # An intermediate alone would be trusted by nobody's TLS: it needs its root above it.
        raise MalformedTrust(f"{CA_TARGET}: a certificate that does not sign itself") from error
    if not constraints.ca:
        raise MalformedTrust(f"{CA_TARGET}: a certificate that may sign no others")


def _require_distinct(roots: Sequence[str]) -> None:
    if len(set(roots)) != len(roots):
        raise MalformedTrust(f"{CA_TARGET}: the same root twice")


def _bytes(pem: str) -> bytes:
    """What is not ASCII is no PEM; what JSON allows besides cannot even be encoded."""
    return pem.encode("ascii", "replace")


def _canonical(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
