"""The enrolment messages and what binds them to their secret."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import enrolment as e
from contract.errors import BadSignature, ContractError, MalformedMessage, MessageTooLong

SECRET = "5e" * 32
NONCE = "0f" * 16
FILE = e.EnrolmentFile(
    device="cam-1",
    device_class="camera",
    hub_url="https://hub.example:8443",
    ca_pem="-----BEGIN CERTIFICATE-----\n",
    broker_host="hub.example",
    broker_port=8883,
    root_json="{}",
    floor_ms=1_790_000_000_000,
    secret=SECRET,
    expires_at_ms=1_790_003_600_000,
)


def changed(**fields: object) -> bytes:
    return json.dumps(json.loads(e.encode_enrolment(FILE)) | fields).encode()


def test_the_file_round_trips() -> None:
    assert e.decode_enrolment(e.EnrolmentFile, e.encode_enrolment(FILE)) == FILE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device", "../x"),
        ("hub_url", "http://hub.example"),
        ("hub_url", "https://"),
        ("broker_host", "a b"),
        ("broker_port", 0),
        ("secret", "short"),
        ("schema", 2),
    ],
)
def test_a_bad_field_is_named(field: str, value: object) -> None:
    with pytest.raises(MalformedMessage, match=field):
        e.decode_enrolment(e.EnrolmentFile, changed(**{field: value}))


def test_an_endless_file_is_not_parsed() -> None:
    with pytest.raises(MessageTooLong):
        e.decode_enrolment(e.EnrolmentFile, b" " * (e.MAX_ENROLMENT_BYTES + 1))


def test_the_same_secret_gives_the_same_mac_and_another_does_not() -> None:
    mac = e.request_mac(SECRET, "cam-1", "csr", NONCE)
    e.check_mac(e.request_mac(SECRET, "cam-1", "csr", NONCE), mac, "request")
    with pytest.raises(BadSignature, match="request"):
        e.check_mac(e.request_mac("00" * 32, "cam-1", "csr", NONCE), mac, "request")


def test_a_mac_binds_the_device_the_nonce_and_the_key() -> None:
    macs = {
        e.request_mac(SECRET, device, csr, nonce)
        for device in ("cam-1", "cam-2")
        for csr in ("csr", "other")
        for nonce in (NONCE, "00" * 16)
    }
    assert len(macs) == 8


def test_a_request_cannot_be_played_back_as_its_own_reply() -> None:
    request = e.request_mac(SECRET, "cam-1", "pem", NONCE)
    assert request != e.reply_mac(SECRET, "cam-1", "pem", NONCE)


def test_parts_cannot_slide_into_each_other() -> None:
    assert e.request_mac(SECRET, "a", "bc", NONCE) != e.request_mac(SECRET, "ab", "c", NONCE)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_contract_errors(data: bytes) -> None:
    with pytest.raises(ContractError):
        e.decode_enrolment(e.EnrolmentFile, data)
    with pytest.raises(ContractError):
        e.decode_enrolment(e.EnrolmentRequest, data)
    with pytest.raises(ContractError):
        e.decode_enrolment(e.EnrolmentReply, data)


def test_claims_are_bound_by_the_mac_and_cannot_be_shifted() -> None:
    secret = "5e" * 32
    plain = e.request_mac(secret, "cam-1", "csr", "a" * 32)
    assert plain == e.request_mac(secret, "cam-1", "csr", "a" * 32, e.Claims())
    first = e.request_mac(secret, "cam-1", "csr", "a" * 32, e.Claims(host="ab", model="c"))
    second = e.request_mac(secret, "cam-1", "csr", "a" * 32, e.Claims(host="a", model="bc"))
    assert len({plain, first, second}) == 3


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[2J", "x" * 121, "\x9b"])
def test_claims_are_one_short_printable_line(text: str) -> None:
    request = e.EnrolmentRequest(
        device="cam-1", csr_pem="x", nonce="a" * 32, mac="0" * 64, claims=e.Claims(host=text)
    )
    with pytest.raises(MalformedMessage):
        e.decode_enrolment(e.EnrolmentRequest, e.encode_enrolment(request))
