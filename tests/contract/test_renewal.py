"""The renewal request: signed over its exact bytes, parsed within bounds."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import BadSignature, ContractError, MalformedMessage, MessageTooLong
from contract.renewal import (
    MAX_RENEWAL_BYTES,
    RenewalReply,
    RenewalRequest,
    decode_reply,
    encode_reply,
    read_renewal,
    sign_renewal,
)

KEY = generate_private_key(SECP256R1())
REQUEST = RenewalRequest(device="cam-1", csr_pem="pem", nonce="a" * 32, at_ms=1_800_000_000_000)


def test_what_was_signed_is_what_is_read() -> None:
    found = read_renewal(sign_renewal(REQUEST, KEY))
    assert found.request == REQUEST
    found.check(KEY.public_key())


def test_another_key_does_not_pass() -> None:
    found = read_renewal(sign_renewal(REQUEST, KEY))
    with pytest.raises(BadSignature):
        found.check(generate_private_key(SECP256R1()).public_key())


def test_a_changed_request_does_not_pass() -> None:
    envelope = json.loads(sign_renewal(REQUEST, KEY))
    payload = base64.b64decode(envelope["payload"]).replace(b"cam-1", b"cam-2")
    envelope["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(BadSignature):
        read_renewal(json.dumps(envelope).encode()).check(KEY.public_key())


def test_a_signature_over_another_kind_of_message_does_not_pass() -> None:
    envelope = json.loads(sign_renewal(REQUEST, KEY))
    envelope["payloadType"] = "application/vnd.outrider.state+json"
    with pytest.raises(MalformedMessage, match="type or schema"):
        read_renewal(json.dumps(envelope).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"[" * 5_000, b"\xff", b'{"payload": 1}'])
def test_rubbish_is_the_contracts_error(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_renewal(data)
    with pytest.raises(MalformedMessage):
        decode_reply(data)


def test_too_much_is_not_parsed() -> None:
    with pytest.raises(MessageTooLong):
        read_renewal(b"[" * (MAX_RENEWAL_BYTES + 1))
    with pytest.raises(MessageTooLong):
        decode_reply(b"[" * (MAX_RENEWAL_BYTES + 1))


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"device": "../x"}, {"nonce": "short"}, {"at_ms": -1}]
)
def test_values_out_of_bounds_are_refused(change: dict[str, object]) -> None:
    envelope = json.loads(sign_renewal(REQUEST, KEY))
    payload = json.loads(base64.b64decode(envelope["payload"])) | change
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    with pytest.raises(ContractError):
        read_renewal(json.dumps(envelope).encode())


def test_a_reply_reads_back_and_a_newer_schema_is_refused() -> None:
    reply = RenewalReply(device="cam-1", nonce="a" * 32, certificate_pem="pem")
    assert decode_reply(encode_reply(reply)) == reply
    newer = RenewalReply(schema=2, device="cam-1", nonce="a" * 32, certificate_pem="pem")
    with pytest.raises(MalformedMessage, match="schema 2"):
        decode_reply(encode_reply(newer))


@given(st.binary(max_size=400))
def test_no_input_raises_anything_but_the_contracts_errors(data: bytes) -> None:
    inside = json.loads(sign_renewal(REQUEST, KEY))
    inside["payload"] = base64.b64encode(data).decode()
    for body in (data, json.dumps(inside).encode()):
        with contextlib.suppress(ContractError):
            read_renewal(body)
    with contextlib.suppress(ContractError):
        decode_reply(data)
