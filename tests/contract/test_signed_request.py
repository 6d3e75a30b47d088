"""Signed requests of any kind: bound to their kind, their bytes and their signer."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import BadSignature, ContractError, MalformedMessage, MessageTooLong
from contract.signed_request import Kind, read, sign

KEY = generate_private_key(SECP256R1())


class Asked(msgspec.Struct, frozen=True):
    """As small as a request can be."""

    device: str
    schema: int = 1


ONE = Kind("first request", "application/one", Asked, 2_048)
OTHER = Kind("other request", "application/other", Asked, 2_048)
BODY = sign(ONE, Asked("pi-1"), KEY)


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(BODY) | fields).encode()


def test_a_request_is_read_and_checked() -> None:
    found = read(ONE, BODY)
    assert found.request == Asked("pi-1")
    found.check(KEY.public_key())


def test_another_key_did_not_sign_it() -> None:
    with pytest.raises(BadSignature, match="first request"):
        read(ONE, BODY).check(generate_private_key(SECP256R1()).public_key())


def test_other_bytes_were_not_signed() -> None:
    other = json.loads(sign(ONE, Asked("pi-2"), KEY))["payload"]
    with pytest.raises(BadSignature):
        read(ONE, changed(payload=other)).check(KEY.public_key())


def test_a_signature_under_one_kind_says_nothing_under_another() -> None:
    with pytest.raises(MalformedMessage, match="other request"):
        read(OTHER, BODY)
    with pytest.raises(BadSignature):
        read(OTHER, changed(payloadType=OTHER.payload_type)).check(KEY.public_key())


def test_a_body_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(MessageTooLong, match="at most 2048"):
        read(ONE, BODY + b" " * 2_048)


def test_another_schema_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="schema"):
        read(ONE, sign(ONE, Asked("pi-1", schema=2), KEY))


@given(st.binary(max_size=300) | st.builds(lambda text: changed(payload=text), st.text()))
def test_any_bytes_are_a_request_or_a_contract_error(data: bytes) -> None:
    with contextlib.suppress(ContractError):
        read(ONE, data)
