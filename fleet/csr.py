"""What counts of a certificate signing request: its key, proven. Pure."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from fleet.errors import CsrRefused


def csr_key(csr_pem: str) -> EllipticCurvePublicKey:
    """The P-256 key that signed the request, whatever its subject; raises `CsrRefused`."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        key = csr.public_key()
        signed = csr.is_signature_valid
    except Exception as error:
        raise CsrRefused(f"the CSR cannot be read: {str(error)[:120]}") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise CsrRefused("the CSR's key is not an ECDSA P-256 key")
    if not signed:
        raise CsrRefused("the CSR is not signed by its own key")
    return key
