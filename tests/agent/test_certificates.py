"""Certificates with any bit turned over: good ones or refused, and never another error."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from agent.certificates import (
    CertificateRefused,
    check_ca,
    check_chain,
    is_request_of,
    lifetime,
    new_key,
    request_pem,
)

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
NOW_MS = int(NOW.timestamp() * 1000)
KEY = new_key()
# A turned bit makes serial numbers and the like that cryptography will refuse one day.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def root() -> x509.Certificate:
    """Signs itself, and stands for this device: so one file is leaf, link and root."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pi-1")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pi-1")]), critical=False)
        .sign(KEY, hashes.SHA256())
    )


DER = root().public_bytes(serialization.Encoding.DER)
GOOD = root().public_bytes(serialization.Encoding.PEM).decode()


def pem(der: bytes, what: str = "CERTIFICATE") -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {what}-----\n{body}-----END {what}-----\n"


def damaged(der: bytes) -> Iterator[bytes]:
    for position in range(len(der)):
        for bit in range(8):
            other = bytearray(der)
            other[position] ^= 1 << bit
            yield bytes(other)


def takes(leaf: str, ca: str) -> bool:
    try:
        check_chain(leaf, ca, KEY, "pi-1", NOW_MS)
    except CertificateRefused:
        return False
    return True


def test_the_certificate_itself_is_good() -> None:
    assert takes(GOOD, GOOD)
    assert lifetime(GOOD) == (NOW_MS - 86_400_000, NOW_MS + 86_400_000)


def test_a_leaf_with_any_bit_turned_over_is_refused() -> None:
    """But where the bit is none of those that are signed."""
    taken = [der for der in damaged(DER) if takes(pem(der), GOOD)]
    contents = {x509.load_der_x509_certificate(der).tbs_certificate_bytes for der in taken}
    assert contents <= {root().tbs_certificate_bytes}
    assert len(taken) < 8


def test_a_root_with_any_bit_turned_over_is_no_error_of_another_kind() -> None:
    for der in damaged(DER):
        takes(GOOD, pem(der))


def test_a_damaged_file_has_a_lifetime_or_is_refused() -> None:
    refused = 0
    for der in damaged(DER):
        try:
            check_ca(pem(der))
            lifetime(pem(der))
        except CertificateRefused:
            refused += 1
    assert refused > 100


def test_a_damaged_request_is_not_this_keys() -> None:
    good = request_pem(KEY, "pi-1")
    der = x509.load_pem_x509_csr(good.encode()).public_bytes(serialization.Encoding.DER)
    assert is_request_of(good, KEY)
    assert not is_request_of(good, new_key())
    for other in damaged(der):
        is_request_of(pem(other, "CERTIFICATE REQUEST"), KEY)


@pytest.mark.parametrize("now_ms", [1 << 53, -(1 << 60)])
def test_a_time_that_no_calendar_has_is_refused(now_ms: int) -> None:
    with pytest.raises(CertificateRefused):
        check_chain(GOOD, GOOD, KEY, "pi-1", now_ms)
