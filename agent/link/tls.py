"""The TLS context of a device: its own certificate, and its CA alone.

Refuses the system's CA store, other names and other CAs, always. When the device's clock is known
to be wrong (it stands before the trusted floor), the dates of certificates are not checked, since a
board without a battery boots in 1970; nothing else is relaxed (design: Clock).
"""

from __future__ import annotations

import ssl
from pathlib import Path

_X509_V_FLAG_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name."""


def trust_only(ca_pem: str, clock_is_wrong: bool) -> ssl.SSLContext:
    """A client's context that trusts this CA and no other; TLS 1.2 or later."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=ca_pem)
    if clock_is_wrong:
        context.verify_flags |= _X509_V_FLAG_NO_CHECK_TIME
    return context


def mutual(ca_pem: str, certificate: Path, key: Path, clock_is_wrong: bool) -> ssl.SSLContext:
    """The same, and the device shows its own certificate."""
    context = trust_only(ca_pem, clock_is_wrong)
    context.load_cert_chain(str(certificate), str(key))
    return context
