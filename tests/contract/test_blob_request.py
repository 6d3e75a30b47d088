"""The request for blobs: signed over its exact bytes, bounded; and the records that answer it."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from hypothesis import given
from hypothesis import strategies as st

from contract import blob_request as b
from contract.errors import (
    BadSignature,
    ContractError,
    MalformedBlob,
    MalformedMessage,
    MessageTooLong,
)
from contract.renewal import RenewalRequest, sign_renewal
from model.chunks import MAX_PAYLOAD_BYTES

KEY = generate_private_key(SECP256R1())
REQUEST = b.BlobRequest(
    device="cam-1", target="digits/1", digests=["a" * 64], at_ms=1_800_000_000_000
)


def test_what_was_signed_is_what_is_read() -> None:
    found = b.read_blob_request(b.sign_blob_request(REQUEST, KEY))
    assert found.request == REQUEST
    found.check(KEY.public_key())


def test_the_largest_request_fits() -> None:
    names = [f"{number:064x}" for number in range(b.MAX_DIGESTS)]
    request = b.BlobRequest(device="a" * 63, target="a/" + "b" * 63, digests=names, at_ms=1)
    assert b.read_blob_request(b.sign_blob_request(request, KEY)).request.digests == names


@pytest.mark.parametrize("digests", [[], ["a" * 64] * (b.MAX_DIGESTS + 1), ["../x"], ["A" * 64]])
def test_too_many_none_or_no_digests_are_refused(digests: list[str]) -> None:
    request = b.BlobRequest(device="cam-1", target="digits/1", digests=digests, at_ms=1)
    with pytest.raises(MalformedMessage):
        b.read_blob_request(b.sign_blob_request(request, KEY))


def test_another_key_does_not_pass() -> None:
    found = b.read_blob_request(b.sign_blob_request(REQUEST, KEY))
    with pytest.raises(BadSignature):
        found.check(generate_private_key(SECP256R1()).public_key())


def test_a_changed_request_does_not_pass() -> None:
    envelope = json.loads(b.sign_blob_request(REQUEST, KEY))
    payload = base64.b64decode(envelope["payload"]).replace(b"digits/1", b"digits/2")
    envelope["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(BadSignature):
        b.read_blob_request(json.dumps(envelope).encode()).check(KEY.public_key())


def test_a_signed_message_of_another_kind_does_not_pass() -> None:
    renewal = RenewalRequest(device="cam-1", csr_pem="pem", nonce="a" * 32, at_ms=1)
    with pytest.raises(MalformedMessage):
        b.read_blob_request(sign_renewal(renewal, KEY))
    envelope = json.loads(b.sign_blob_request(REQUEST, KEY))
    envelope["payloadType"] = "application/vnd.outrider.renewal+json"
    with pytest.raises(MalformedMessage, match="type or schema"):
        b.read_blob_request(json.dumps(envelope).encode())


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_rubbish_is_the_contracts_error(data: bytes) -> None:
    with contextlib.suppress(ContractError):
        b.read_blob_request(data)


def test_too_long_a_body_is_not_parsed() -> None:
    with pytest.raises(MessageTooLong):
        b.read_blob_request(b" " * (b.MAX_REQUEST_BYTES + 1))


def test_a_record_says_whose_payload_of_how_many_bytes_follows() -> None:
    found = b.record("ab" * 32, b"payload")
    assert b.read_head(found[: b.HEAD_BYTES]) == ("ab" * 32, 7)
    assert found[b.HEAD_BYTES :] == b"payload"
    assert b.read_head(b.record("ab" * 32, b"")) == ("ab" * 32, 0)


def test_a_payload_longer_than_any_is_refused_by_its_head() -> None:
    assert b.MAX_PAYLOAD_BYTES == MAX_PAYLOAD_BYTES
    for head in (bytes(32) + (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "big"), b"\xff" * 36, b"short"):
        with pytest.raises(MalformedBlob):
            b.read_head(head)
