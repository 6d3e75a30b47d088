"""Whatever a stranger calls a CSR, the hub answers with an error of its own that has a name.

The secret's HMAC, or the device's signature, is right every time: the bytes reach the parser.
"""

from __future__ import annotations

import base64
import itertools
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.enrolment import EnrolmentRequest, encode_enrolment, request_mac
from contract.renewal import RenewalRequest, sign_renewal
from fleet.api.identity import REQUESTS_A_MINUTE
from fleet.api.limits import RateLimit
from fleet.csr import csr_key
from fleet.devices import add_device
from fleet.errors import CsrRefused
from fleet.ports import HubServices
from tests.fleet.harness import csr_pem, enrolled

KEY = generate_private_key(SECP256R1())
GENUINE = x509.load_pem_x509_csr(csr_pem(KEY, "cam").encode()).public_bytes(
    serialization.Encoding.DER
)
NAMES = (f"cam-{number}" for number in itertools.count())
NAMED = {"csr-refused", "enrolment-refused", "renewal-refused", "malformed-message"}


def pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"


def spliced(cut: tuple[int, int], put: bytes) -> bytes:
    """A genuine CSR of which one piece was replaced."""
    start, length = cut
    return GENUINE[:start] + put + GENUINE[start + length :]


ders = st.one_of(
    st.binary(max_size=600),
    st.builds(
        spliced,
        st.tuples(st.integers(0, len(GENUINE)), st.integers(0, 40)),
        st.binary(max_size=40),
    ),
)
csrs = st.one_of(st.text(max_size=600), ders.map(pem), ders.map(lambda der: der.decode("latin-1")))
# The hub is made once for all examples; each takes a name of its own there.
examples = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def forget_how_often(client: TestClient) -> None:
    """Strangers are bounded, and a test is nobody else."""
    assert isinstance(client.app, FastAPI)
    for kind in ("enrolments", "renewals", "strangers"):
        setattr(client.app.state, kind, RateLimit(*REQUESTS_A_MINUTE, lambda: 0))


def is_named(answer: Any) -> bool:
    """Refused with a code of its own, or (a splice that changed nothing) taken."""
    if answer.status_code == 200:
        return True
    return 400 <= answer.status_code < 500 and answer.json()["error"]["code"] in NAMED


@given(csrs)
@settings(deadline=None)
def test_a_csr_of_any_bytes_is_refused_or_has_a_key(csr: str) -> None:
    with suppress(CsrRefused):
        assert isinstance(csr_key(csr).curve, SECP256R1)


@given(csr=csrs)
@examples
def test_any_bytes_as_a_csr_of_an_enrolment_are_answered_by_name(
    anybody: TestClient, hub: HubServices, csr: str
) -> None:
    forget_how_often(anybody)
    file = add_device(hub, next(NAMES), "generic", {})
    mac = request_mac(file.secret, file.device, csr, "1" * 32)
    request = EnrolmentRequest(device=file.device, csr_pem=csr, nonce="1" * 32, mac=mac)
    assert is_named(anybody.post("enrol", content=encode_enrolment(request)))


@given(csr=csrs)
@examples
def test_any_bytes_as_a_csr_of_a_renewal_are_answered_by_name(
    anybody: TestClient, hub: HubServices, csr: str
) -> None:
    forget_how_often(anybody)
    device = enrolled(hub, next(NAMES))
    request = RenewalRequest(device=device.name, csr_pem=csr, nonce="2" * 32, at_ms=hub.clock())
    answer = anybody.post("renew", content=sign_renewal(request, device.key))
    assert is_named(answer)


@given(
    body=st.one_of(
        st.binary(max_size=400),
        st.recursive(st.none() | st.text(), st.lists).map(msgspec.json.encode),
    )
)
@examples
@pytest.mark.parametrize("path", ["enrol", "renew"])
def test_any_body_is_answered_by_name(anybody: TestClient, path: str, body: bytes) -> None:
    forget_how_often(anybody)
    answer = anybody.post(path, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed-message")


@pytest.mark.parametrize("escape", [rb"\ud800", rb"\udfff", rb"\u0000"])
def test_half_a_character_as_a_csr_is_answered_by_name(
    anybody: TestClient, hub: HubServices, escape: bytes
) -> None:
    file = add_device(hub, next(NAMES), "generic", {})
    request = EnrolmentRequest(device=file.device, csr_pem="HERE", nonce="1" * 32, mac="0" * 64)
    body = encode_enrolment(request).replace(b"HERE", escape)
    assert is_named(anybody.post("enrol", content=body))
